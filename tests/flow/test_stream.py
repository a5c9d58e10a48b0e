"""Answers for a stream of rows: the same as all at once, in order, by one process or several."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.stream import Placed, stream

TEXTS = [text for _ in range(10) for text in (*tiny.GOOD, *tiny.BAD)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.classifier(), tmp_path_factory.mktemp("stream") / "model")


def placed(texts: list[str]) -> Iterator[Placed]:
    return ((f"file:{number}", {"text": text}) for number, text in enumerate(texts, 1))


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_answers_as_all_at_once(folder: Path, processes: int) -> None:
    load = functools.partial(Predictor.load, folder, threads=1)
    wanted = load()(TEXTS)
    found = list(stream(placed(TEXTS), load, processes=processes, chunk=7))
    assert [row["text"] for (_, row), _ in found] == TEXTS
    assert [answer.label for _, answer in found] == [one.label for one in wanted]
    scores = [answer.score for _, answer in found]
    assert scores == pytest.approx([one.score for one in wanted], abs=1e-6)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_comes_before_a_bad_row_is_answered(folder: Path, processes: int) -> None:
    load = functools.partial(Predictor.load, folder, threads=1)
    answers = stream(placed([*TEXTS[:10], "", *TEXTS]), load, processes=processes, chunk=8)
    given = []
    with pytest.raises(DataError, match="empty") as caught:
        given.extend(answers)
    assert len(given) == 10
    assert caught.value.details["place"] == "file:11"


def test_an_endless_source_is_read_no_further_than_needed(folder: Path) -> None:
    taken = itertools.count()
    source = ((next(taken), {"text": text}) for text in itertools.cycle(TEXTS))
    answers = stream(source, Predictor.load(folder, threads=1), chunk=16)
    assert len(list(itertools.islice(answers, 20))) == 20
    assert next(taken) <= 48
