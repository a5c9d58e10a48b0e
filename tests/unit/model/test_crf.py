"""The conditional random field against a sum over all paths, and against finite differences."""

import itertools

import numpy as np
import pytest
import torch

from unmask.model import crf
from unmask.model.chain import Chain
from unmask.model.config import EncoderConfig
from unmask.model.crf import CrfHead, negative_log_likelihood

TAGS = 3
TOLERANCE = 1e-5


def chain(seed: int = 0) -> Chain:
    rng = np.random.default_rng(seed)
    return Chain(*(rng.normal(size=size).astype(np.float32) for size in ((TAGS, TAGS), TAGS, TAGS)))


def emissions(words: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(words, TAGS)).astype(np.float32)


def path_score(path: tuple[int, ...], scores: np.ndarray, one: Chain) -> float:
    """The formula of the module's docstring, term by term."""
    total = one.start[path[0]] + one.end[path[-1]] + sum(scores[at, tag] for at, tag in enumerate(path))
    return float(total + sum(one.transitions[a, b] for a, b in itertools.pairwise(path)))


def all_paths(scores: np.ndarray, one: Chain) -> dict[tuple[int, ...], float]:
    paths = itertools.product(range(TAGS), repeat=len(scores))
    return {path: path_score(path, scores, one) for path in paths}


def loss(scores: np.ndarray, tags: list[int], lengths: list[int], one: Chain) -> float:
    parts = [torch.from_numpy(part) for part in (one.transitions, one.start, one.end)]
    return float(negative_log_likelihood(torch.from_numpy(scores), torch.tensor(tags), np.array(lengths), *parts))


@pytest.mark.parametrize("words", [1, 2, 5])
def test_likelihood_is_a_softmax_over_all_paths(words: int) -> None:
    scores, one = emissions(words), chain()
    paths = all_paths(scores, one)
    log_z = np.log(sum(np.exp(score) for score in paths.values()))
    for path in list(paths)[:: max(1, len(paths) // 9)]:
        assert loss(scores, list(path), [words], one) == pytest.approx(log_z - paths[path], abs=TOLERANCE)


def test_likelihoods_of_several_texts_add_up_in_any_order_of_lengths() -> None:
    lengths, one = [2, 0, 5, 1, 3], chain()
    scores = emissions(sum(lengths))
    tags = np.random.default_rng(2).integers(0, TAGS, sum(lengths)).tolist()
    ends = np.cumsum(lengths)
    alone = sum(
        loss(scores[end - size : end], tags[end - size : end], [size], one)
        for size, end in zip(lengths, ends, strict=True)
        if size
    )
    assert loss(scores, tags, lengths, one) == pytest.approx(alone, abs=TOLERANCE)


def test_no_words_have_no_loss() -> None:
    assert loss(emissions(0), [], [0, 0], chain()) == 0.0


@pytest.mark.parametrize("words", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 3])
def test_best_path_is_the_best_of_all(words: int, seed: int) -> None:
    scores, one = emissions(words, seed + 1), chain(seed)
    paths = all_paths(scores, one)
    assert tuple(one.best_path(scores)) == max(paths, key=paths.__getitem__)
    assert one.best_path(emissions(0)) == []


@pytest.mark.parametrize("words", [1, 4])
def test_marginals_are_sums_over_paths(words: int) -> None:
    scores, one = emissions(words), chain()
    paths = all_paths(scores, one)
    total = sum(np.exp(score) for score in paths.values())
    want = np.zeros((words, TAGS))
    for path, score in paths.items():
        want[np.arange(words), list(path)] += np.exp(score) / total
    np.testing.assert_allclose(one.marginals(scores), want, atol=TOLERANCE)
    assert one.marginals(emissions(0)).shape == (0, TAGS)


def test_without_a_chain_the_words_are_independent() -> None:
    scores = emissions(6)
    none = Chain(np.zeros((TAGS, TAGS), np.float32), np.zeros(TAGS, np.float32), np.zeros(TAGS, np.float32))
    tags = [0, 1, 2, 2, 1, 0]
    want = torch.nn.functional.cross_entropy(torch.from_numpy(scores), torch.tensor(tags), reduction="sum")
    assert loss(scores, tags, [6], none) == pytest.approx(float(want), abs=TOLERANCE)
    assert none.best_path(scores) == scores.argmax(axis=1).tolist()


def test_places_are_copied_once_however_long_the_texts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    monkeypatch.setattr(crf, "upload", lambda values, device: copies.append(len(values)) or values)
    loss(emissions(12), [0, 1, 2] * 4, [7, 0, 5], chain())
    assert len(copies) == 1, "a copy for each step makes a card wait each time"


def test_the_chain_is_fetched_again_only_when_it_has_changed() -> None:
    head = crf_head()
    first = head.chain()
    assert head.chain() is first
    with torch.no_grad():
        head.crf["end"].add_(1.0)
    second = head.chain()
    assert (second.end == first.end + 1).all()
    assert (second.start == first.start).all()
    head.load_state_dict({**head.state_dict(), "crf.start": torch.full((2,), 3.0)}, assign=True)
    assert head.chain().start.tolist() == [3.0, 3.0]


def test_a_chain_of_inference_tensors_is_read_each_time() -> None:
    with torch.inference_mode():
        head = crf_head()
        head.crf["end"].fill_(2.0)
        assert head.chain().end.tolist() == [2.0, 2.0]
        head.crf["end"].fill_(3.0)
        assert head.chain().end.tolist() == [3.0, 3.0]


def crf_head() -> CrfHead:
    config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    return CrfHead(config, 2, dropout=0.0)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((7, 3), (3, 3), (3,), (3,))]
    tags, lengths = torch.tensor([0, 2, 1, 1, 0, 2, 2]), np.array([3, 0, 4])

    def nll(scores: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        return negative_log_likelihood(scores, tags, lengths, *parts)

    assert torch.autograd.gradcheck(nll, inputs)


def test_the_head_learns_a_rule_that_only_transitions_can_hold() -> None:
    """Two tags alternate on words that all look the same: no emission can tell them apart."""
    head = crf_head()
    head.init_weights(0)
    hidden, tags, lengths = torch.ones(12, 4), torch.tensor([0, 1] * 6), np.array([6, 6])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.2)
    for _ in range(30):
        optimizer.zero_grad()
        value = head.loss(head(hidden), tags, lengths)
        value.backward()
        optimizer.step()
    assert value.item() < 1.0
    assert head.chain().best_path(head(hidden[:6]).detach().numpy()) == [0, 1, 0, 1, 0, 1]
