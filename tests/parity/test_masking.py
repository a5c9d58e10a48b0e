"""Our masks beside those of the two homes of RoBERTa: transformers' collator and fairseq's counting rule."""

import random

import numpy as np
import pytest
import tokenizers
import torch
from scipy import stats
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from unmask.data.masking import MaskingSettings, mask
from unmask.data.order import hash_u64

NUM_SAMPLES, LENGTH = 2000, 128
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
VOCAB_SIZE, MASK_ID = 60, 4
ORDINARY = LENGTH - 2


@pytest.fixture(scope="module")
def blocks() -> np.ndarray:
    """Samples `<s> ... </s>` of ordinary tokens, (NUM_SAMPLES, LENGTH)."""
    ids = np.random.default_rng(0).integers(len(SPECIAL), VOCAB_SIZE, (NUM_SAMPLES, LENGTH))
    ids[:, 0], ids[:, -1] = 0, 2
    return ids


@pytest.fixture(scope="module")
def theirs(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What transformers makes of them: ids and labels."""
    vocab = {token: id for id, token in enumerate(SPECIAL + [f"w{number}" for number in range(VOCAB_SIZE - 5)])}
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>")),
        **{f"{name}_token": token for name, token in names.items()},
    )
    torch.manual_seed(0)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    made = collator([{"input_ids": row} for row in blocks.tolist()])
    return made["input_ids"].numpy(), made["labels"].numpy()


@pytest.fixture(scope="module")
def ours(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What we make of them, in the same form."""
    masked = mask(
        blocks.reshape(-1),
        np.arange(NUM_SAMPLES + 1) * LENGTH,
        np.isin(blocks.reshape(-1), [0, 2]),
        sample_ids=np.arange(NUM_SAMPLES),
        epochs=np.zeros(NUM_SAMPLES, np.int64),
        seed=0,
        config=MaskingSettings(),
        mask_id=MASK_ID,
        allowed_ids=np.arange(len(SPECIAL), VOCAB_SIZE),
    )
    labels = np.full(blocks.size, -100)
    labels[masked.positions] = masked.labels
    return masked.input_ids.reshape(blocks.shape), labels.reshape(blocks.shape)


def random_draws(blocks: np.ndarray, made: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    ids, labels = made
    return ids[(labels != -100) & (ids != blocks) & (ids != MASK_ID)]


def test_both_have_the_same_shares(
    blocks: np.ndarray, ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> None:
    for ids, labels in (ours, theirs):
        chosen = labels != -100
        assert np.array_equal(labels[chosen], blocks[chosen])
        assert np.array_equal(ids[~chosen], blocks[~chosen])
        assert not chosen[:, [0, -1]].any()
        assert abs(chosen.sum() / (NUM_SAMPLES * ORDINARY) - 0.15) < 0.003
        assert abs(np.mean(ids[chosen] == MASK_ID) - 0.8) < 0.01


def test_our_count_is_fixed_and_theirs_varies(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> None:
    our_counts, their_counts = ((labels != -100).sum(axis=1) for _, labels in (ours, theirs))
    assert set(our_counts) == {18, 19}  # 0.15 * 126 = 18.9
    assert abs(our_counts.mean() - 18.9) < 0.05
    # Each token by itself: a binomial count, variance n p (1 - p) = 16.1.
    assert abs(their_counts.var() - ORDINARY * 0.15 * 0.85) < 2
    assert their_counts.max() - their_counts.min() > 20


def test_our_binomial_count_varies_as_theirs(blocks: np.ndarray, theirs: tuple[np.ndarray, np.ndarray]) -> None:
    masked = mask(
        blocks.reshape(-1),
        np.arange(NUM_SAMPLES + 1) * LENGTH,
        np.isin(blocks.reshape(-1), [0, 2]),
        sample_ids=np.arange(NUM_SAMPLES),
        epochs=np.zeros(NUM_SAMPLES, np.int64),
        seed=0,
        config=MaskingSettings(count="binomial"),
        mask_id=MASK_ID,
        allowed_ids=np.arange(len(SPECIAL), VOCAB_SIZE),
    )
    our_counts = np.bincount(masked.positions // LENGTH, minlength=NUM_SAMPLES)
    their_counts = (theirs[1] != -100).sum(axis=1)
    assert stats.ks_2samp(our_counts, their_counts).pvalue > 1e-3


def test_our_random_tokens_are_never_special_and_theirs_are(
    blocks: np.ndarray, ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> None:
    assert random_draws(blocks, ours).min() >= len(SPECIAL)
    assert set(random_draws(blocks, theirs)) & {0, 1, 2, 3} == {0, 1, 2, 3}


def test_our_count_is_the_rule_of_fairseq() -> None:
    # fairseq: num_mask = int(mask_prob * size + rng.random()); here the size leaves special tokens out.
    counts = []
    for length in range(1, 200):
        masked = mask(
            np.full(length, 9),
            np.array([0, length]),
            np.zeros(length, bool),
            sample_ids=np.array([length]),
            epochs=np.array([0]),
            seed=3,
            config=MaskingSettings(mask_prob=0.15),
            mask_id=MASK_ID,
            allowed_ids=np.arange(5, VOCAB_SIZE),
        )
        uniform = float(hash_u64(hash_u64(3, 0, length), 0)[0] >> np.uint64(11)) * 2.0**-53
        counts.append((len(masked.positions), int(0.15 * length + uniform)))
    assert all(ours == theirs for ours, theirs in counts)


def test_keys_of_samples_differ_where_those_of_fairseq_collide() -> None:
    # fairseq seeds each sample with int(hash((seed, epoch, index)) % 1e6): a float remainder of a 64-bit hash.
    theirs = {int(hash((1, 1, index)) % 1e6) for index in range(1_000_000)}
    assert len(theirs) < 40_000
    assert len(np.unique(hash_u64(1, 1, np.arange(1_000_000)))) == 1_000_000


def test_masks_differ_between_all_samples_of_a_corpus() -> None:
    # 20,000 samples with the same text: no two get the same positions.
    count, length = 20_000, 40
    masked = mask(
        np.full(count * length, 9),
        np.arange(count + 1) * length,
        np.zeros(count * length, bool),
        sample_ids=np.arange(count),
        epochs=np.zeros(count, np.int64),
        seed=random.Random(0).getrandbits(62),
        config=MaskingSettings(mask_prob=0.3),
        mask_id=MASK_ID,
        allowed_ids=np.arange(5, VOCAB_SIZE),
    )
    chosen = np.zeros(count * length, bool)
    chosen[masked.positions] = True
    assert len(np.unique(np.packbits(chosen.reshape(count, length), axis=1), axis=0)) == count
