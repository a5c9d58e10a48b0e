"""Answers for a stream of rows: the same as all at once, in order, by one process or several."""

import functools
import itertools
import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.cli import main
from unmask.data.features import sorted_batches
from unmask.errors import ArtefactError, DataError, ResourceError
from unmask.predict import Predictor, Said
from unmask.stream import Placed, stream
from unmask.tasks.rows import Place, Row, row_number

TEXTS = [text for _ in range(10) for text in (*tiny.GOOD, *tiny.BAD)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.classifier(), tmp_path_factory.mktemp("stream") / "model")


def placed(texts: list[str]) -> Iterator[Placed]:
    return ((f"file:{number}", {"text": text}) for number, text in enumerate(texts, 1))


def opened(path: str) -> Predictor:
    """A predictor of a file that is not there."""
    raise FileNotFoundError(2, "No such file or directory", path)


def run(command: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(command)
    return int(caught.value.code or 0)


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
def test_a_bad_row_has_its_error_in_the_place_of_an_answer(folder: Path, processes: int) -> None:
    load = functools.partial(Predictor.load, folder, threads=1)
    wanted = [one.label for one in load()(TEXTS)]
    unread = ("file:0", DataError("ragged-row", "expected 1 field, saw 2", place="file:0"))
    rows = itertools.chain(placed([*TEXTS[:10], "", *TEXTS[10:], " "]), [unread])
    found = list(stream(rows, load, processes=processes, chunk=8))
    bad = [(place, answer.code) for (place, _), answer in found if isinstance(answer, DataError)]
    assert bad == [("file:11", "empty-text"), (f"file:{len(TEXTS) + 2}", "empty-text"), ("file:0", "ragged-row")]
    assert [answer.label for _, answer in found if not isinstance(answer, DataError)] == wanted
    assert found[10][1].details["place"] == "file:11"


def test_what_keeps_a_worker_from_starting_is_told_as_it_is(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtefactError, match="no such model folder"):
        list(stream(placed(TEXTS), functools.partial(Predictor.load, tmp_path / "nothing"), processes=2))
    with pytest.raises(FileNotFoundError, match="nothing"):
        list(stream(placed(TEXTS), functools.partial(opened, str(tmp_path / "nothing")), processes=2))
    if not torch.cuda.is_available():
        assert run(["predict", "a film", "--model", str(folder), "--processes", "2", "--device", "cuda"]) == 5
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert torch.cuda.is_available() or "[no-gpu]" in said


class SmallMemory(Predictor):
    """A predictor of a machine whose memory holds so many tokens of one pass."""

    room = 0
    error: Exception = ResourceError("no-memory", "too little")

    def run(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Said]:
        features = self.task.encode(rows, place=place)
        for chosen in sorted_batches(np.array([len(one) for one in features]), max_tokens=self.max_tokens):
            if sum(len(features[index]) for index in chosen) > self.room:
                raise self.error
        return super().run(rows, place=place, is_labelled=is_labelled)


@pytest.mark.parametrize("error", [ResourceError("no-memory", "too little"), RuntimeError("out of memory")])
def test_passes_become_smaller_until_the_memory_suffices(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SmallMemory, "error", error)
    predictor = SmallMemory(tiny.classifier())
    predictor.room = 128
    found = list(stream(placed(TEXTS), predictor))
    assert [answer for _, answer in found] == Predictor(tiny.classifier(), max_tokens=predictor.max_tokens)(TEXTS)
    assert predictor.max_tokens == 128
    assert len(caplog.messages) == 6, "once for each half of 8,192"


@pytest.mark.parametrize("is_told", [False, True])
def test_what_a_failed_pass_had_taken_is_free_before_the_next(is_told: bool) -> None:
    taken: list[weakref.ref[torch.Tensor]] = []

    class Hungry(SmallMemory):
        def run(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Said]:
            assert [one() for one in taken] == [None] * len(taken)
            if len(taken) == 4:
                return Predictor.run(self, rows, place=place, is_labelled=is_labelled)
            states = torch.zeros(9)
            taken.append(weakref.ref(states))
            try:
                raise RuntimeError("out of memory")
            except RuntimeError as error:
                if is_told:
                    raise ResourceError("no-memory", "too little") from error
                raise

    assert len(list(stream(placed(TEXTS), Hungry(tiny.classifier())))) == len(TEXTS)


@pytest.mark.parametrize("error", [ResourceError("no-memory", "too little"), MemoryError()])
@pytest.mark.parametrize("is_bad_behind", [False, True])
def test_what_comes_before_a_text_that_is_too_large_is_answered(
    error: Exception, is_bad_behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmallMemory, "error", error)
    predictor = SmallMemory(tiny.classifier())
    predictor.room = 20
    texts = [*TEXTS[:10], "a " * 30, *TEXTS[:5], *([""] if is_bad_behind else [])]
    given = []
    with pytest.raises(ResourceError) as caught:
        given.extend(stream(placed(texts), predictor))
    assert len(given) == 10
    assert caught.value.details["place"] == "file:11"


def test_other_errors_of_the_network_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallMemory, "error", RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        list(stream(placed(TEXTS), SmallMemory(tiny.classifier())))


def test_an_endless_source_is_read_no_further_than_needed(folder: Path) -> None:
    taken = itertools.count()
    source = ((next(taken), {"text": text}) for text in itertools.cycle(TEXTS))
    answers = stream(source, Predictor.load(folder, threads=1), chunk=16)
    assert len(list(itertools.islice(answers, 20))) == 20
    assert next(taken) <= 48


def test_the_command_line_answers_in_processes_and_names_the_bad_line(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[str] = []
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    command = ["predict", "--file", str(rows), "--model", str(folder), "--json"]
    assert run(command) == 0
    one = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    with monkeypatch.context() as patch:  # the process that reads packs no weights
        patch.setattr("unmask.predict.install", lambda task, engine: packed.append(engine.name))
        assert run([*command, "--processes", "2"]) == 0
    assert packed == ["torch"]
    two = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["label"] for row in two] == [row["label"] for row in one]
    assert len(two) == len(TEXTS)
    rows.write_text(rows.read_text() + '{"text": " "}\n')
    assert run(command) == 3
    said = capfd.readouterr()
    assert len(said.out.splitlines()) == len(TEXTS)
    assert f"rows.jsonl:{len(TEXTS) + 1}" in said.err
    assert "--skip-bad" in said.err


@pytest.mark.parametrize("is_typed", [True, False])
def test_typed_lines_are_answered_one_by_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], is_typed: bool
) -> None:
    said: list[int] = []

    def lines() -> Iterator[bytes]:
        for text in TEXTS[:3]:
            said.append(len(capfd.readouterr().out.splitlines()))
            yield f"{text}\n".encode()

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines(), isatty=lambda: is_typed))
    assert run(["predict", "--model", str(folder)]) == 0
    assert said == ([0, 1, 1] if is_typed else [0, 0, 0]), "answers before each line is read"
