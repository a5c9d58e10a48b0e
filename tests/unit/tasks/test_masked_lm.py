"""Filling masks: one or several, with and without a space before them."""

import math

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.tasks.mask_reader import put, spelt


def test_a_space_before_the_mask_changes_nothing() -> None:
    task = tiny.masked_lm()
    spaced, tight = Predictor(task)(["The cat sat <mask>.", "The cat sat<mask>."])
    assert spaced.text == tight.text
    assert [one.token for one in spaced.masks[0].candidates] == [one.token for one in tight.masks[0].candidates]
    assert (spaced.masks[0].start, spaced.masks[0].end) == (12, 18)
    assert (tight.masks[0].start, tight.masks[0].end) == (11, 17)


def test_the_filled_text_holds_each_candidate() -> None:
    (answer,) = Predictor(tiny.masked_lm())(["The cat <mask> on the mat."])
    for candidate in answer.masks[0].candidates:
        assert candidate.text == f"The cat{candidate.token} on the mat."
    scores = [candidate.score for candidate in answer.masks[0].candidates]
    assert scores == sorted(scores, reverse=True)
    assert answer.text == answer.masks[0].candidates[0].text


def test_several_masks_are_all_answered() -> None:
    (answer,) = Predictor(tiny.masked_lm())(["<mask> cat sat on the <mask>."])
    assert len(answer.masks) == 2
    assert "<mask>" not in answer.text
    assert all("<mask>" in one.text for mask in answer.masks for one in mask.candidates)


def test_other_special_strings_stay_text() -> None:
    task = tiny.masked_lm()
    (features,) = task.encode([{"text": "a </s> b <mask>"}])
    assert features.input_ids.tolist().count(task.tokenizer.sep_id) == 1


def test_a_mask_out_of_reach_is_an_error() -> None:
    with pytest.raises(DataError, match="behind the 64 tokens"):
        Predictor(tiny.masked_lm())(["word " * 100 + "<mask>"])


def test_scores_are_the_likelihood_of_the_true_pieces() -> None:
    task = tiny.masked_lm().eval()
    rows = [{"text": text} for text in tiny.GOOD]
    scores = task.score(Predictor(task).predict_rows(rows, is_labelled=True), rows)
    total, count = 0.0, 0
    for one in task.encode(rows, is_training=True):
        assert one.targets is not None
        with torch.inference_mode():
            log_probs = task(task.collate([one])).log_softmax(-1)
        total -= float(log_probs[np.arange(len(one.targets[1])), one.targets[1]].sum())
        count += len(one.targets[1])
    assert scores["nats_per_token"] == pytest.approx(total / count, rel=1e-4)
    assert scores["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-3)
    assert scores["masked_tokens"] == count


def test_texts_of_both_kinds_stand_in_one_batch() -> None:
    rows = [{"text": text} for text in (tiny.GOOD[0], "<mask> cat on the <mask>.", tiny.BAD[0], "a <mask> film")]
    predictor = Predictor(tiny.masked_lm())
    for together, row in zip(predictor.predict_rows(rows, is_labelled=True), rows, strict=True):
        (alone,) = predictor.predict_rows([row], is_labelled=True)
        assert (together.nll is None) == ("<mask>" in row["text"])
        assert (together.text, together.nll) == (alone.text, pytest.approx(alone.nll, abs=1e-5))
        assert [[one.token for one in mask.candidates] for mask in together.masks] == [
            [one.token for one in mask.candidates] for mask in alone.masks
        ]


def test_texts_with_masks_cannot_be_scored() -> None:
    task = tiny.masked_lm()
    rows = [{"text": "a <mask>"}]
    with pytest.raises(DataError, match="unknown"):
        task.score(Predictor(task).predict_rows(rows), rows)


def test_a_text_is_scored_alike_wherever_it_stands() -> None:
    predictor = Predictor(tiny.masked_lm())
    rows = [{"text": text} for text in tiny.GOOD]
    forward = predictor.predict_rows(rows, is_labelled=True)
    backward = predictor.predict_rows(rows[::-1], is_labelled=True)[::-1]
    assert [one.num_scored for one in forward] == [one.num_scored for one in backward]
    assert [one.nll for one in forward] == pytest.approx([one.nll for one in backward], abs=1e-5)
    assert all(one.masks == () and one.text == row["text"] for one, row in zip(forward, rows, strict=True))


def test_a_text_without_a_mask_is_not_answered() -> None:
    with pytest.raises(DataError, match="no mask to fill"):
        Predictor(tiny.masked_lm())(["nothing is hidden here"])


def test_candidates_are_pieces_that_can_stand_in_a_text() -> None:
    task = tiny.masked_lm()
    task.settings = task.settings.model_copy(update={"top_k": task.config.vocab_size})
    (answer,) = Predictor(task)(["The cat <mask>"])
    tokens = {one.token for one in answer.masks[0].candidates}
    assert not tokens & {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}
    assert not any(token.startswith("\\x") for token in tokens)
    assert {"a", "the", " the"} & tokens


@pytest.mark.parametrize(
    ("text", "piece", "family", "filled"),
    [
        ("I like @ tea.", " green", "roberta", "I like green tea."),
        ("I like@ tea.", " green", "roberta", "I like green tea."),
        ("I like @ tea.", "ly", "roberta", "I likely tea."),
        ("@ tea", " Green", "roberta", "Green tea"),
        (" @ tea", " Green", "roberta", "Green tea"),
        ("I like @ tea.", " green", "xlm-roberta", "I like green tea."),
        ("I like @ tea.", "ld", "xlm-roberta", "I likeld tea."),
        ("I like @ tea.", "green", "bert", "I like green tea."),
        ("I like@ tea.", "green", "bert", "I like green tea."),
        ("I like @ tea.", "##ly", "bert", "I likely tea."),
        ("I like@", ".", "bert", "I like."),
        ("\u5929\u6c14@\u597d", "\u5f88", "bert", "\u5929\u6c14\u5f88\u597d"),
        ("\u5929\u6c14@\u597d", "##\u5f88", "bert", "\u5929\u6c14\u5f88\u597d"),
        ("@ tea", "green", "bert", "green tea"),
    ],
)
def test_pieces_are_written_as_their_tokenizer_cuts_them(text: str, piece: str, family: str, filled: str) -> None:
    start = text.index("@")
    assert put(text, [spelt(text, (start, start + 1), piece, family)]) == filled
