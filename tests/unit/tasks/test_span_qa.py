"""Answers as stretches of a text: windows, labels, the best answer, no answer, scores and marks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tiny
from tests.unit.tokenizer.samples import FAMILIES, NASTY, TEXTS, folder_of
from unmask.cli import say
from unmask.data.batching import IGNORED
from unmask.data.questions import COLUMNS, Answer
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.tasks.base import Row
from unmask.tasks.span_qa import SpanQA
from unmask.tasks.span_reader import AnswerPrediction, FoundAnswer, SpanQASettings, WindowFeatures
from unmask.tokenizer.load import Tokenizer
from unmask.train.fit import Step, Trainer
from unmask.train.settings import OptimSettings

LONG = " ".join(f"Number {number} is a fine and lovely film." for number in range(40))
CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
ANY = st.lists(CHARACTERS | st.sampled_from(NASTY + TEXTS), min_size=1, max_size=4).map(" ".join)


def row(context: str, *answers: tuple[str, int], **more: object) -> Row:
    found = [Answer(*one) for one in answers]
    return {"text": "Which film?", "context": context, "answers": found, "is_impossible": not answers, **more}


def perfect(features: list[WindowFeatures]) -> list[np.ndarray]:
    """Logits of a network that is sure of the labels."""
    logits = []
    for one in features:
        wanted = np.full((len(one), 2), -10.0, np.float32)
        wanted[one.label[0], 0] = wanted[one.label[1], 1] = 10.0
        logits.append(wanted)
    return logits


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SpanQA]:
    """A task for each family of tokenizers."""
    made = {}
    for family in FAMILIES:
        tokenizer = Tokenizer.load(folder_of(family, tmp_path_factory.mktemp("t") / family))
        types = 2 if family == "bert" else 1
        sizes = tiny.config().model_dump() | {"family": family, "vocab_size": tokenizer.vocab_size}
        config = EncoderConfig.model_validate(sizes | {"type_vocab_size": types, "pad_token_id": tokenizer.pad_id})
        known = {"text_column": "text", "stride": 16, "max_answer_length": 64, "has_no_answers": True}
        made[family] = SpanQA(config, tokenizer, SpanQASettings.model_validate(known))
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(
    context=ANY.filter(str.strip), family=st.sampled_from(FAMILIES), ends=st.tuples(st.floats(0, 1), st.floats(0, 1))
)
def test_perfect_logits_give_the_answer_back_on_any_unicode(
    tasks: dict[str, SpanQA], context: str, family: str, ends: tuple[float, float]
) -> None:
    """Exactly, but that pieces which the answer cuts are taken whole, and white space at its ends is left out."""
    start, end = sorted(round(place * len(context)) for place in ends)
    asked = row(context, (context[start:end], start))
    features = tasks[family].encode([asked], is_training=True)
    (pieces,) = tasks[family].tokenizer.encode([context])
    held = [(a, b) for a, b in pieces.offsets.tolist() if a < b and a < end and b > start]
    if any(one.label[0] == IGNORED for one in features):
        assert not held
        return
    found = tasks[family].decode(perfect(features), features, asked)
    assert context[found.start : found.end] == found.answer
    if not any(one.label[0] for one in features):
        assert found.answer == ""  # no window holds all of it
        return
    wanted = context[held[0][0] : held[-1][1]].strip()
    assert found.answer == wanted
    assert context[found.start :].startswith(wanted)
    if held[0][0] == start and held[-1][1] == end:
        assert found.answer == context[start:end].strip()


def test_an_answer_in_a_long_text_is_learned_in_each_window_that_holds_it_and_found_again() -> None:
    task = tiny.span_qa(stride=16)
    start = LONG.index("Number 30")
    asked = row(LONG, ("Number 30", start))
    features = task.encode([asked], is_training=True)
    holders = [one for one in features if one.label[0]]
    assert len(features) > 10
    assert 1 < len(holders) < len(features)
    for one in holders:
        low, high = one.label
        assert LONG[one.pieces[low - one.first, 0] : one.pieces[high - one.first, 1]] == "Number 30"
    found = task.decode(perfect(features), features, asked)
    assert (found.answer, found.start, found.end) == ("Number 30", start, start + 9)
    assert found.truncated_share == 0.0


def test_an_answer_is_learned_exactly_where_all_of_it_is_in_the_window() -> None:
    task = tiny.span_qa(stride=8)
    (pieces,) = task.tokenizer.encode([LONG])
    is_solid = (pieces.offsets[:, 0] < pieces.offsets[:, 1]).tolist()
    starts = [at for at in range(20, 60) if is_solid[at] and is_solid[at + 2]]
    assert len(starts) > 20
    for first in starts:
        start, end = pieces.offsets[first, 0], pieces.offsets[first + 2, 1]
        for one in task.encode([row(LONG, (LONG[start:end], int(start)))], is_training=True):
            held = [tuple(pair) for pair in one.pieces.tolist()]
            wanted = [tuple(pair) for pair in pieces.offsets[first : first + 3].tolist()]
            if set(wanted) <= set(held):
                assert one.label.tolist() == [one.first + held.index(wanted[0]), one.first + held.index(wanted[2])]
            else:
                assert one.label.tolist() == [0, 0]


def test_only_the_first_window_counts_where_texts_are_cut() -> None:
    task = tiny.span_qa(long_texts="cut")
    (one,) = task.encode([row(LONG, ("Number 30", LONG.index("Number 30")))], is_training=True)
    assert one.label.tolist() == [0, 0]
    (whole,) = task.tokenizer.encode([LONG])
    assert one.num_truncated == len(whole.ids) - len(one.pieces)
    assert 0.8 < task.decode([np.zeros((len(one), 2), np.float32)], [one], row(LONG)).truncated_share < 1.0


def test_a_long_question_keeps_its_first_pieces() -> None:
    task = tiny.span_qa(max_question_length=5)
    asked = row("a lovely film") | {"text": "why " * 50}
    (one,) = task.encode([asked])
    (question,) = task.tokenizer.encode([asked["text"]])
    assert one.input_ids[1:6].tolist() == question.ids[:5].tolist()
    assert one.first == 8  # <s> question </s></s>
    assert one.num_truncated == len(question.ids) - 5
    first, *others = task.encode([asked | {"context": LONG}])
    assert first.num_truncated == len(question.ids) - 5
    assert {one.num_truncated for one in others} == {0}


def test_the_most_frequent_answer_is_learned_and_lost_ones_are_not() -> None:
    task = tiny.span_qa()
    several = row(tiny.STORY, ("cat", 4), ("mat", 19), ("mat", 19))
    lost = row(tiny.STORY, ("tiger", -1))
    none = row(tiny.STORY)
    first, *_ = task.encode([several], is_training=True)
    low, high = first.label - first.first
    assert tiny.STORY[first.pieces[low, 0] : first.pieces[high, 1]] == "mat"
    assert {one.label.tolist()[0] for one in task.encode([lost], is_training=True)} == {IGNORED}
    assert {one.label.tolist()[0] for one in task.encode([none], is_training=True)} == {0}
    batch = task.collate(task.encode([lost], is_training=True))
    assert task.loss(task(batch), batch).item() == 0.0


def test_questions_without_a_place_do_not_thin_the_mean_of_the_loss() -> None:
    task = tiny.span_qa(stride=16)
    placed, lost = row(tiny.STORY, ("cat", 4)), row(LONG, ("tiger", -1))

    def step_of(*asked: Row) -> Step:
        same = tiny.span_qa(stride=16)
        same.load_state_dict(task.state_dict())
        trainer = Trainer(same, OptimSettings(), max_steps=9, machine=machine("float32", "cpu"), seed=0)
        (step,) = trainer.fit([[same.collate(same.encode(asked, is_training=True))]])
        return step

    alone, among, nothing = step_of(placed), step_of(placed, lost), step_of(lost)
    assert len(task.encode([lost])) > 10
    assert among.num_targets == alone.num_targets == len(task.encode([placed]))
    assert among.loss == pytest.approx(alone.loss, rel=1e-5)
    assert (nothing.loss, nothing.num_targets) == (0.0, 0)
    notes = SpanQA.understand(table(placed, lost, row(LONG)), {}).notes
    assert notes[1:] == ["questions whose answer stands nowhere in its text, and from which nothing is learned: 1"]
    assert len(SpanQA.understand(table(placed, row(LONG)), {}).notes) == 1


def test_the_loss_is_a_sum_of_softmaxes_over_each_window_alone() -> None:
    task = tiny.span_qa()
    features = task.encode([row(LONG, ("film", LONG.index("film"))), row(tiny.STORY, ("cat", 4))], is_training=True)
    batch = task.collate(features)
    logits = torch.randn(len(batch.input_ids), 2)
    alone = [
        torch.nn.functional.cross_entropy(part.T, torch.tensor(one.label), reduction="sum") / 2
        for part, one in zip(logits.split([len(one) for one in features]), features, strict=True)
    ]
    torch.testing.assert_close(task.loss(logits, batch), torch.stack(alone).sum())
    assert batch.num_targets == len(features)


def decide(task: SpanQA, best: float, nulls: list[float]) -> AnswerPrediction:
    """The answer of windows over one text, of which the first holds a stretch with the logit `best`."""
    features = [task.encode([row("a fine film")])[0] for _ in nulls]
    logits = [np.full((len(one), 2), -10.0, np.float32) for one in features]
    for one, null in zip(logits, nulls, strict=True):
        one[0] = null / 2
    logits[0][features[0].first] = best / 2
    return task.decode(logits, features, row("a fine film"))


def test_no_answer_is_given_above_the_threshold_by_the_least_sure_window() -> None:
    task = tiny.span_qa(has_no_answers=True, null_threshold=1.0)
    given = decide(task, 5.0, [6.0, 9.0])
    assert given.answer == "a"
    assert given.null_score == pytest.approx(1.0)
    left = decide(task, 5.0, [9.0, 6.5])
    assert (left.answer, left.start, left.end) == ("", 0, 0)
    assert left.n_best[0].text == "a"
    assert left.score > 0.5
    assert left.score + sum(one.score for one in left.n_best) == pytest.approx(1.0)
    assert left.summary().startswith("(no answer)\t")
    assert decide(tiny.span_qa(), 5.0, [90.0]).answer == "a"  # where every question has an answer


def test_listed_answers_are_distinct_ordered_and_share_all_probability() -> None:
    task = tiny.span_qa(n_best=7, stride=8, max_answer_length=3)
    (answer,) = Predictor(task).predict_rows([row(tiny.STORY)])
    assert len(answer.n_best) == 7
    assert len({(one.start, one.end) for one in answer.n_best}) == 7
    assert [one.score for one in answer.n_best] == sorted((one.score for one in answer.n_best), reverse=True)
    assert sum(one.score for one in answer.n_best) == pytest.approx(1.0)
    assert all(tiny.STORY[one.start : one.end] == one.text for one in answer.n_best)
    for one in answer.n_best:
        (pieces,) = task.tokenizer.encode([one.text])
        assert len(pieces.ids) <= 4  # three, and one that may be cut differently without its space
    assert (answer.answer, answer.start, answer.end) == (
        answer.n_best[0].text,
        answer.n_best[0].start,
        answer.n_best[0].end,
    )


def test_scores_are_the_official_ones_and_the_threshold_is_fitted() -> None:
    task = tiny.span_qa(has_no_answers=True)
    rows = [row("a fine film", ("fine film", 2)), row("a fine film"), row("a fine film")]
    given = [("fine film", -3.0), ("fine", -2.0), ("fine", 4.0)]
    answers = [
        AnswerPrediction(text, 0, 0, 0.5, gap, (FoundAnswer(text, 2, 2 + len(text), 0.5),)) for text, gap in given
    ]
    scores = task.score(answers, rows)
    assert scores["f1"] == scores["exact"] == pytest.approx(1 / 3)
    assert (scores["has_answer_f1"], scores["no_answer_f1"]) == (1.0, 0.0)
    assert (scores["best_f1"], scores["best_threshold"]) == (1.0, -3.0)
    assert (task.main_metric, tiny.span_qa().main_metric) == ("best_f1", "f1")
    assert task.row_scores(answers, rows) == [1.0, 0.0, 0.0]
    features = [task.encode([one]) for one in rows]
    parts = [perfect_gap(task, parts_of[0], gap) for parts_of, (_, gap) in zip(features, given, strict=True)]
    assert task.fit_to_dev(parts, features, rows).settings == {"null_threshold": pytest.approx(-3.0)}
    for other in (tiny.span_qa(), tiny.span_qa(has_no_answers=True, null_threshold=0.5)):
        assert other.fit_to_dev(parts, features, rows).settings == {}


def perfect_gap(task: SpanQA, one: WindowFeatures, gap: float) -> list[np.ndarray]:
    """Logits for the pieces of " fine film", with "no answer" above them by `gap`."""
    logits = np.full((len(one), 2), -10.0, np.float32)
    held = [one.first + at for at, (start, _) in enumerate(one.pieces) if start >= 2]
    logits[held[0], 0] = logits[held[-1], 1] = 0.0
    logits[0] = gap / 2
    return [logits]


def test_wrong_answers_are_drawn_into_their_text() -> None:
    task = tiny.span_qa()
    start = LONG.index("Number 30")
    rows = [row(LONG, ("Number 30", start)), row(tiny.STORY, ("mat", 19))]
    answers = [AnswerPrediction("Number 2", 32, 40, 0.9, 0.0, ()), AnswerPrediction("the mat", 15, 22, 0.9, 0.0, ())]
    (mistake,) = task.mistakes(answers, rows)
    assert (mistake.label, mistake.answer, mistake.score) == ("Number 30", "Number 2", 0.9)
    assert mistake.text.startswith("Which film?\n")
    assert len(mistake.text) < 400
    assert [(mistake.text[one.start : one.end], one.label, one.is_gold) for one in mistake.marks] == [
        ("Number 30", "right", True), (LONG[32:40], "found", False),
    ]  # fmt: skip


def table(*rows: Row) -> Table:
    return Table(Path("train.json"), COLUMNS, list(rows), list(range(1, len(rows) + 1)), "questions")


def test_a_file_tells_whether_there_may_be_no_answer_how_long_answers_are_and_their_script() -> None:
    plain = SpanQA.understand(table(row(tiny.STORY, ("cat", 4))), {})
    assert plain.settings == {"has_no_answers": False, "max_answer_length": 30, "scoring": "squad"}
    chinese = "\u4eca\u5929\u5929\u6c14\u5f88\u597d" * 20
    other = SpanQA.understand(table(row(chinese, (chinese[:60], 0)), row(chinese)), {})
    assert other.settings == {"has_no_answers": True, "max_answer_length": 90, "scoring": "cmrc"}
    assert other.notes == [
        "2 questions about 1 texts | 1 without an answer | answers of up to 90 pieces | scored as CMRC does"
    ]
    with pytest.raises(DataError, match="does not hold questions"):
        SpanQA.understand(Table(Path("t.csv"), ("text",), [{"text": "a"}], [1]), {})
    assert SpanQA.group(row(LONG), tiny.span_qa().settings) == LONG


def test_chinese_answers_are_scored_by_characters() -> None:
    task = tiny.span_qa(scoring="cmrc")
    context = "\u4eca\u5929\u5929\u6c14\u5f88\u597d"
    answer = AnswerPrediction(context[2:], 2, 6, 0.5, 0.0, ())
    assert task.score([answer], [row(context, (context[2:4], 2))])["f1"] == pytest.approx(2 / 3)


def test_a_question_without_answer_or_mark_names_its_place() -> None:
    asked = {"text": "What?", "context": "a film", "id": "q9"}
    with pytest.raises(DataError, match="neither an answer") as caught:
        tiny.span_qa().encode([asked], is_training=True, place=lambda at: f"train.json:{at + 5}")
    assert caught.value.details["place"] == "train.json:5"
    assert caught.value.details["value"] == "q9"


def test_pairs_are_question_and_text_and_one_text_is_encoded_once() -> None:
    task = tiny.span_qa()
    (answer,) = Predictor(task)([("Which film?", "a lovely film")])
    assert "a lovely film"[answer.start : answer.end] == answer.answer != ""
    with pytest.raises(DataError, match="reads 2 text"):
        Predictor(task)(["Which film?"])
    first, second = task.encode([row("a lovely film"), row("a lovely film") | {"text": "Why?"}])
    assert (first.row, second.row) == (0, 1)
    assert first.input_ids[first.first :].tolist() == second.input_ids[second.first :].tolist()


def test_rows_with_answers_are_written_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    say({"input": row("a film", ("film", 2))})
    assert json.loads(capsys.readouterr().out)["input"]["answers"] == [{"text": "film", "start": 2}]


def test_a_text_without_pieces_has_no_answer(tasks: dict[str, SpanQA]) -> None:
    (one,) = tasks["bert"].encode([row("\x01\x02", ("\x01", 0))], is_training=True)
    assert len(one.pieces) == 0
    assert tasks["bert"].decode([np.zeros((len(one), 2), np.float32)], [one], row("\x01\x02")).answer == ""


@pytest.mark.parametrize("blank", ["", " ", "\u3000"])
def test_an_empty_question_is_read_where_its_answer_is_known(tasks: dict[str, SpanQA], blank: str) -> None:
    """Published sets hold some, and scores are of all rows; a user who asks nothing is told so."""
    task = next(iter(tasks.values()))
    asked, held = task.text_columns
    row = {asked: blank, held: tiny.STORY, "answers": [Answer(tiny.STORY[:4], 0)], "is_impossible": False}
    (answer,) = Predictor(task).predict_rows([row], is_labelled=True)
    assert answer.answer == tiny.STORY[answer.start : answer.end]
    with pytest.raises(DataError, match="is empty"):
        Predictor(task).predict_rows([row])
