"""Pseudo-log-likelihoods against one mask at a time, and against the reference library on the saved folder."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests import tiny
from unmask import runtime
from unmask.data.batching import Features
from unmask.errors import DataError
from unmask.study.likelihood import WithinWord, make_copies, pseudo_log_likelihoods, text_scores
from unmask.tasks.masked_lm import MaskedLM

TEXTS = [*tiny.GOOD, "It looked at the moon unbelievably.", "moon", "a <mask> is text", "\u4eca\u5929 na\u00efve"]
EXACT = 1e-4
WAYS: tuple[WithinWord, ...] = ("l2r", "original")


def machine(dtype: str = "float32") -> runtime.Machine:
    return runtime.machine(dtype, "cpu")


def masked_by_hand(task: MaskedLM, text: str, within_word: WithinWord) -> list[tuple[list[int], int, int]]:
    """Ids with one piece hidden, its place and its true id, for each piece; written to be read."""
    tokenizer = task.tokenizer
    (pieces,) = tokenizer.encode([text])
    copies = []
    for at, true in enumerate(pieces.ids.tolist()):
        ids = pieces.ids.tolist()
        ids[at] = tokenizer.mask_id
        if within_word == "l2r":
            for later in range(at + 1, len(ids)):
                if pieces.word_starts[later]:
                    break
                ids[later] = tokenizer.mask_id
        copies.append(([tokenizer.cls_id, *ids, tokenizer.sep_id], at + 1, true))
    return copies


@torch.inference_mode()
def one_at_a_time(task: MaskedLM, text: str, within_word: WithinWord) -> list[float]:
    found = []
    for ids, place, true in masked_by_hand(task, text, within_word):
        targets = (np.array([place]), np.array([true]))
        batch = task.collate([Features(input_ids=np.array(ids, np.int32), targets=targets)])
        found.append(task(batch).log_softmax(-1)[0, true].item())
    return found


@pytest.mark.parametrize("within_word", WAYS)
@pytest.mark.parametrize("max_tokens", [8, 100, 8192])
def test_scores_are_those_of_one_mask_at_a_time(within_word: WithinWord, max_tokens: int) -> None:
    task = tiny.masked_lm().eval()
    scores = pseudo_log_likelihoods(task, TEXTS, machine=machine(), within_word=within_word, max_tokens=max_tokens)
    for text, score in zip(TEXTS, scores, strict=True):
        assert score.tolist() == pytest.approx(one_at_a_time(task, text, within_word), abs=EXACT)


@torch.inference_mode()
def test_scores_are_those_of_the_reference_library(tmp_path: Path) -> None:
    task = tiny.masked_lm()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    network = AutoModelForMaskedLM.from_pretrained(tiny.saved(task, tmp_path / "model")).eval()
    scores = pseudo_log_likelihoods(task, TEXTS, machine=machine())
    for text, score in zip(TEXTS, scores, strict=True):
        for (ids, place, true), ours in zip(masked_by_hand(task, text, "l2r"), score, strict=True):
            theirs = network(input_ids=torch.tensor([ids])).logits[0, place].log_softmax(-1)[true].item()
            assert ours == pytest.approx(theirs, abs=EXACT)


def test_the_ways_differ_only_inside_words_of_several_pieces() -> None:
    tokenizer = tiny.tokenizer()
    text = "the unbelievable moon"
    (pieces,) = tokenizer.encode([text])
    hidden = []
    for way in WAYS:
        copies = make_copies(tokenizer, [text], 64, within_word=way)
        batch = copies.batch(np.arange(len(pieces.ids)), mask_id=tokenizer.mask_id, position_offset=2)
        hidden.append((batch.input_ids.view(len(pieces.ids), -1) == tokenizer.mask_id).sum(1).numpy())
    l2r, original = hidden
    assert (original == 1).all()
    ends = np.append(pieces.word_starts[1:], True)
    assert (l2r[ends] == 1).all()
    assert (l2r[~ends] > 1).all()
    assert not ends.all()


def test_bfloat16_is_close() -> None:
    task = tiny.masked_lm()
    exact, rough = (pseudo_log_likelihoods(task, TEXTS, machine=machine(dtype)) for dtype in ("float32", "bfloat16"))
    assert not np.array_equal(np.concatenate(exact), np.concatenate(rough))
    assert np.concatenate(rough) == pytest.approx(np.concatenate(exact), abs=0.05)


def test_progress_ends_with_all_pieces() -> None:
    told: list[tuple[int, int]] = []
    scores = pseudo_log_likelihoods(
        tiny.masked_lm(),
        TEXTS,
        machine=machine(),
        max_tokens=64,
        on_progress=lambda done, total: told.append((done, total)),
    )
    total = sum(map(len, scores))
    assert len(told) > 1
    assert told == sorted(told)
    assert told[-1] == (total, total)


@pytest.mark.parametrize(("text", "reason"), [(" ", "empty"), ("", "empty"), ("word " * 70, "reads 64 tokens")])
def test_a_sentence_that_cannot_be_scored_is_named(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        pseudo_log_likelihoods(
            tiny.masked_lm(), ["fine", text], machine=machine(), place=lambda index: f"a.txt:{index}"
        )
    assert caught.value.details["place"] == "a.txt:1"


def test_figures_of_all_texts() -> None:
    scores = [np.array([-1.0, -2.0], np.float32), np.array([-3.0], np.float32)]
    found = text_scores(scores, ["ab", "\u00e9"])
    assert found["pseudo_perplexity"] == pytest.approx(math.exp(2))
    assert found["bits_per_byte"] == pytest.approx(6 / math.log(2) / 4)
