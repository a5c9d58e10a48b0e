"""Tagging: alignment on any Unicode, windows that lose no word, policies, schemes and scores."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests import tiny
from tests.unit.data.texts import LABELS, rows, texts
from unmask.data.rows import Table
from unmask.data.spans import STRAY, Span, units
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.tasks import TASKS, find_task
from unmask.tasks.tag_reader import FoundSpan, TaggingSettings, TagPrediction
from unmask.tasks.tagging import Tagging
from unmask.tokenizer.train import train
from unmask.train.job import read_job

ROW = {"text": "Anna saw New York", "words": None, "spans": [Span(0, 4, "PER"), Span(9, 17, "LOC")]}
LONG = " ".join(f"{word} a wonderful day" for word in ("Anna", "Bob", "great", "film") * 12)
FAST = settings(deadline=None, max_examples=60)


def tagger(**changes: object) -> Tagging:
    known = {"labels": LABELS, "scheme": "bio", "head_dropout": 0.0}
    task = Tagging(tiny.config(), tiny.tokenizer(), TaggingSettings.model_validate(known | changes))
    task.init_weights(0)
    return task.eval()


def oracle(task: Tagging, row: dict) -> TagPrediction:
    """What the task answers if the network is sure of the right tag of every word."""
    features = task.encode([row], is_training=True)
    parts = [np.eye(len(task.labels), dtype=np.float32)[one.tags] * 99 for one in features]
    return task.decode(parts, features, row)


def table(rows: Sequence[dict]) -> Table:
    return Table(Path("f.conll"), ("text", "words", "spans"), list(rows), list(range(1, len(rows) + 1)), "tagged")


@FAST
@given(rows(), st.sampled_from(["first", "mean"]), st.sampled_from([7, 16, None]))
def test_right_tags_give_the_spans_of_the_file_on_any_unicode(row: dict, pooling: str, max_length: int | None) -> None:
    answer = oracle(tagger(pooling=pooling, max_length=max_length), row)
    assert [Span(one.start, one.end, one.label) for one in answer.spans] == row["spans"]
    assert all(row["text"][one.start : one.end] == one.text for one in answer.spans)


@FAST
@given(texts())
def test_answers_are_whole_units_of_the_text(text: str) -> None:
    (answer,) = Predictor(tagger())([text])
    edges = units(text)
    assert all(text[one.start : one.end] == one.text for one in answer.spans)
    assert {one.start for one in answer.spans} <= {start for start, _ in edges}
    assert {one.end for one in answer.spans} <= {end for _, end in edges}
    assert all(a.end <= b.start for a, b in pairwise(answer.spans))


@pytest.mark.parametrize(("max_length", "stride"), [(8, None), (8, 1), (12, 10), (16, 5), (64, None)])
def test_every_word_of_a_long_text_is_decided_once_where_it_stands_most_centrally(
    max_length: int, stride: int | None
) -> None:
    task = tagger(max_length=max_length, stride=stride)
    features = task.encode([{"text": LONG}])
    assert len(features) > 1
    assert [tuple(word) for one in features for word in one.words] == units(LONG)
    (pieces,) = task.tokenizer.encode([LONG])
    starts = [0]
    for _ in features[1:]:
        starts.append(min(starts[-1] + (stride or max_length // 2), len(pieces.ids)))
    for at, one in enumerate(features):
        assert np.array_equal(one.input_ids[1:-1], pieces.ids[starts[at] : starts[at] + len(one) - 2])
        for (low, _), (first, _) in zip(one.words, one.pieces, strict=True):
            piece = int(np.flatnonzero(pieces.offsets[:, 1] > low)[0])
            assert one.input_ids[first] == pieces.ids[piece]
            last = int(np.flatnonzero(pieces.offsets[:, 0] < next(e for s, e in units(LONG) if s == low))[-1])
            room = [
                min(piece - start, start + len(other) - 2 - last - 1)
                for start, other in zip(starts, features, strict=True)
                if start <= piece < start + len(other) - 2
            ]
            assert min(piece - starts[at], starts[at] + len(one) - 2 - last - 1) == max(room)


def test_windows_and_a_whole_text_have_the_same_targets() -> None:
    row = {"text": LONG, "words": None, "spans": [Span(0, 4, "PER"), Span(21, 24, "PER")]}
    whole, windowed = (tagger(max_length=length).encode([row], is_training=True) for length in (None, 9))
    assert (
        np.concatenate([one.tags for one in windowed]).tolist() == np.concatenate([one.tags for one in whole]).tolist()
    )


def test_a_text_that_is_cut_off_says_so() -> None:
    task = tagger(long_texts="cut", max_length=16)
    (features,) = task.encode([{"text": LONG}])
    (answer,) = Predictor(task)([LONG])
    assert answer.truncated_share == features.truncated_share > 0.8


def test_a_piece_never_reaches_over_the_edge_of_a_word() -> None:
    text = "\u6211\u4eec\u7231\u5317\u4eac\uff0c\u5317\u4eac\u7231\u6211\u4eec"
    tokenizer = train([text] * 50, vocab_size=400, isolate_han=False)
    assert len(tokenizer.encode([text])[0].ids) < len(text)  # several characters in one piece
    task = Tagging(
        tiny.config(vocab_size=tokenizer.vocab_size), tokenizer, TaggingSettings(labels=("LOC",), scheme="bio")
    )
    task.init_weights(0)
    row = {"text": f" {text} ok", "words": None, "spans": [Span(4, 6, "LOC"), Span(7, 8, "LOC")]}
    (features,) = task.encode([row], is_training=True)
    assert all(a[1] <= b[0] for a, b in pairwise(features.pieces))
    assert tokenizer.decode(features.input_ids) == row["text"]
    assert [one.text for one in oracle(task, row).spans] == ["\u5317\u4eac", "\u5317"]


def test_pooling_is_the_first_piece_or_the_mean_of_all() -> None:
    first, mean = tagger(), tagger(pooling="mean")
    batch = first.collate(first.encode([ROW]))
    states = mean.encoded(batch)
    (features,) = first.encode([ROW])
    for at, (start, end) in enumerate(features.pieces):
        torch.testing.assert_close(first(batch)[at], first.head(states[start]))
        pooled = mean(mean.collate(mean.encode([ROW])))[at]
        torch.testing.assert_close(pooled, mean.head(states[start:end].mean(0)))
    assert any(end - start > 1 for start, end in features.pieces)


def test_words_of_the_file_are_kept_and_plain_text_is_cut_as_they_are() -> None:
    words = [(0, 4), (5, 12)]
    features = tagger().encode([{"text": "Anna U.S.A-x", "words": words}])
    assert features[0].words.tolist() == [list(one) for one in words]
    assert len(tagger(units="joined").encode([{"text": "Anna U.S.A-x"}])[0].words) == 2


@pytest.mark.parametrize(("policy", "want"), [("contract", "York"), ("expand", "New York"), ("drop", None)])
def test_policies_for_spans_that_are_off(policy: str, want: str | None) -> None:
    row = ROW | {"spans": [Span(10, 17, "LOC")]}
    with pytest.raises(DataError, match=r"\^\^\^\^\^\^\^ LOC") as caught:
        tagger().encode([row], place=lambda at: f"f:{at}", is_training=True)
    assert caught.value.details["place"] == "f:0"
    task = tagger(span_policy=policy)
    answer = oracle(task, row)
    assert [one.text for one in answer.spans] == ([want] if want else [])
    assert task.score([answer], [row])["recall"] == (0.0 if want is None else 1.0)


def test_unknown_labels_and_rows_without_spans_are_named() -> None:
    with pytest.raises(DataError, match="did you mean 'PER'"):
        tagger().encode([ROW | {"spans": [Span(0, 4, "PERS")]}], is_training=True)
    with pytest.raises(DataError, match="no spans"):
        tagger().encode([{"text": "a"}], is_training=True)


def test_understand_chunks() -> None:
    understood = Tagging.understand(table([ROW | {"words": [(0, 4), (5, 8), (9, 12), (13, 17)]}]), {})
    tags = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert understood.settings == {"labels": tags, "scheme": "bio", "units": "joined", "label_column": None}
    made = TaggingSettings.model_validate(understood.settings)
    assert made.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert TaggingSettings.model_validate(made.model_dump()) == made
    assert "2 labels: PER 1, LOC 1" in understood.notes[0]


def test_a_dev_file_without_entities_is_read_as_the_training_file_is(tmp_path: Path) -> None:
    train, dev = tmp_path / "eng.train", tmp_path / "eng.testa"
    train.write_text("EU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\nAnna NNP I-NP I-PER\nLee NNP I-NP I-PER\n\n" * 4)
    dev.write_text("Rain NN I-NP O\nfalls VBZ I-VP O\n\nSnow NN I-NP O\n")
    job, _ = read_job(train, dev=dev)
    assert job.kind is Tagging
    assert job.options.label_column == "4 of 4"
    assert [row["spans"] for row in job.dev.rows] == [[], []]
    named, _ = read_job(train, dev=dev, given=({"data": {"label_column": "3"}},))
    assert named.options.label_column == "3"
    assert [len(row["spans"]) for row in named.dev.rows] == [2, 1]


def test_a_stride_is_a_piece_or_more() -> None:
    for kind in (find_task(name) for name in TASKS):
        if "stride" in kind.settings_class.model_fields:
            with pytest.raises(ValidationError, match="greater than or equal to 1"):
                kind.settings_class.model_validate({"labels": ("A",), "stride": 0})


@pytest.mark.parametrize("names", [("E-mail",), ("L", "M", "S")])
@pytest.mark.parametrize("scheme", [None, "bio", "bioes", "io"])
def test_labels_of_spans_that_look_like_tags_are_names(names: tuple[str, ...], scheme: str | None) -> None:
    row = {"text": "世界人民", "words": None, "spans": [Span(at, at + 1, name) for at, name in enumerate(names)]}
    options = {} if scheme is None else {"scheme": scheme}
    understood = Tagging.understand(table([row]), options)
    made = TaggingSettings.model_validate(understood.settings | options)
    task = tagger(labels=made.labels, scheme=made.scheme, units="characters")
    assert task.tagset.names == list(names)
    assert [Span(one.start, one.end, one.label) for one in oracle(task, row).spans] == row["spans"]
    assert TaggingSettings.model_validate(made.model_dump()) == made


def test_understand_parts_of_speech_and_characters() -> None:
    words = [(0, 1), (1, 2)]
    row = {"text": "\u5317\u4eac", "words": words, "spans": [Span(0, 1, "N"), Span(1, 2, "V")]}
    understood = Tagging.understand(table([row]), {})
    assert understood.settings == {"labels": ["N", "V"], "scheme": "word", "units": "characters", "label_column": None}
    assert TaggingSettings.model_validate(understood.settings).labels == ("N", "V")


def test_understand_notes_doubts_and_refuses_what_it_cannot_use() -> None:
    note = Tagging.understand(table([ROW | {"doubts": [(ROW["spans"][1], STRAY)]}]), {}).notes[-1]
    assert "f.conll:1" in note
    assert note.endswith("^^^^^^^^ LOC")
    with pytest.raises(DataError, match="no row has a labelled span"):
        Tagging.understand(table([ROW | {"spans": []}]), {})
    with pytest.raises(DataError, match="is a table"):
        Tagging.understand(Table(Path("a.csv"), ("text",), [{"text": "a"}], [2]), {})


def test_a_word_without_a_label_is_no_target() -> None:
    task = tagger(labels=("N", "V"), scheme="word")
    row = {"text": "a b c", "words": [(0, 1), (2, 3), (4, 5)], "spans": [Span(0, 1, "N"), Span(4, 5, "V")]}
    batch = task.collate(task.encode([row], is_training=True))
    assert (batch.labels.tolist(), batch.num_targets) == ([0, 1], 2)
    assert len(Predictor(task).predict_rows([row])[0].spans) == 3


def test_scores_count_whole_spans_and_words() -> None:
    row = ROW | {"words": [(0, 4), (5, 8), (9, 12), (13, 17)]}
    answer = TagPrediction((FoundSpan(0, 4, "PER", "Anna", 0.9), FoundSpan(13, 17, "LOC", "York", 0.8)))
    task = tagger()
    scores = task.score([answer], [row])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.5, 0.5, 0.5)
    assert scores["accuracy"] == 0.5  # "New" and "York" have other tags
    assert task.row_scores([answer], [row]) == [0.5]
    (mistake,) = task.mistakes([answer], [row])
    assert (mistake.label, mistake.answer) == ("Anna [PER], New York [LOC]", "Anna [PER], York [LOC]")
    assert mistake.score == 0.8
    assert [(mark.start, mark.is_gold) for mark in mistake.marks] == [(0, True), (9, True), (0, False), (13, False)]
    assert task.mistakes([oracle(task, row)], [row]) == []


def test_scores_of_a_span_are_probabilities_of_its_label() -> None:
    for task in (tagger(), tagger(crf=True)):
        for one in Predictor(task)(["Anna saw New York", LONG]):
            assert all(0 < span.score <= 1 for span in one.spans)
    with_text = TagPrediction((FoundSpan(0, 4, "PER", "An\nna", 0.987),))
    assert with_text.summary() == "An na [PER 0.99]"
    assert TagPrediction(()).summary() == "-"


def test_a_text_without_pieces_has_no_spans() -> None:
    task = tagger()
    none = {"text": "a", "words": [], "spans": []}
    features = task.encode([none, ROW | {"words": [(0, 4)], "spans": []}], is_training=True)
    batch = task.collate(features)
    assert task.loss(task(batch), batch) > 0
    assert Predictor(task).predict_rows([none]) == [TagPrediction(())]
    for pooling in ("first", "mean"):
        empty = tagger(pooling=pooling, crf=True)
        batch = empty.collate(empty.encode([none], is_training=True))
        assert empty.loss(empty(batch), batch).item() == 0.0
