"""Beam search against an exhaustive search and against a readable twin, on networks that remember every token."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from unmask.model import beam, decoder
from unmask.model.beam import Ask, BeamRules, Best, Found, beam_search

END, START = 1, 0
BEST: dict[str, Callable[[torch.Tensor, Ask], Best]] = {
    "numpy": lambda logits, ask: beam.best_of(logits.numpy(), ask),
    "torch": decoder.best_of,
}


class Remembers:
    """A network whose next token depends on the source and on all tokens before; small enough to ask for any prefix."""

    def __init__(self, sources: list[int], num_beams: int, num_ids: int, kind: str) -> None:
        self.sources = sources
        self.num_beams = num_beams
        self.num_ids = num_ids
        self.best_of = BEST[kind]
        self.prefixes: list[tuple[int, ...]] = [()] * len(sources) * num_beams

    def best(self, ask: Ask) -> Best:
        self.prefixes = [(*prefix, token) for prefix, token in zip(self.prefixes, ask.tokens.tolist(), strict=True)]
        owners = np.repeat(self.sources, self.num_beams)
        said = [logits(int(owner), prefix, self.num_ids) for owner, prefix in zip(owners, self.prefixes, strict=True)]
        return self.best_of(torch.stack(said).float(), ask)

    def select(self, hypotheses: np.ndarray, sources: np.ndarray | None = None) -> None:
        self.prefixes = [self.prefixes[at] for at in hypotheses.tolist()]
        if sources is not None:
            self.sources = [self.sources[at] for at in sources.tolist()]


@pytest.fixture(params=sorted(BEST))
def kind(request: pytest.FixtureRequest) -> str:
    """Whose numbers the network has."""
    return str(request.param)


def logits(source: int, prefix: tuple[int, ...], num_ids: int) -> torch.Tensor:
    seed = hash((source, prefix)) & 0x7FFFFFFF
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, num_ids))


def log_prob(source: int, ids: tuple[int, ...], num_ids: int) -> float:
    """Of a whole text, its end among them."""
    prefix, total = (START,), 0.0
    for token in (*ids, END):
        total += float(logits(source, prefix, num_ids).log_softmax(-1)[token])
        prefix = (*prefix, token)
    return total


def rules(**changes: object) -> BeamRules:
    known = {
        "num_beams": 3, "max_length": 5, "min_length": 0, "length_penalty": 1.0, "no_repeat_ngram": 0,
        "start_id": START, "end_id": END, "banned_ids": (START,),
    }  # fmt: skip
    return BeamRules(**(known | changes))


def search(sources: list[int], num_ids: int, of: BeamRules, kind: str) -> list[list[Found]]:
    return beam_search(Remembers(sources, of.num_beams, num_ids, kind), len(sources), of)


def readable(source: int, num_ids: int, of: BeamRules) -> list[Found]:
    """The same search for one source, in lists."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    done: list[Found] = []
    for length in range(1, of.max_length + 1):
        longer = []
        for total, ids in live:
            shares = logits(source, (START, *ids), num_ids).float().log_softmax(-1).tolist()
            for token, share in enumerate(shares):
                if token in of.banned_ids or (length == of.max_length and token != END):
                    continue
                if token == END and length <= of.min_length:
                    continue
                size = of.no_repeat_ngram
                text = (*ids, token)
                grams = [text[at : at + size] for at in range(len(text) - size + 1)]
                if token != END and size and len(set(grams)) < len(grams):
                    continue
                longer.append((total + share, text))
        longer.sort(key=lambda one: -one[0])
        longer = longer[: 2 * of.num_beams]
        for total, text in longer[: of.num_beams]:
            if text[-1] == END:
                done.append(Found(list(text[:-1]), total / len(text) ** of.length_penalty))
        done = sorted(done, key=lambda one: -one.score)[: of.num_beams]
        live = [one for one in longer if one[1][-1] != END][: of.num_beams]
        if len(done) == of.num_beams or not live:
            break
    return done


def same(found: list[Found], wanted: list[Found]) -> None:
    assert [one.ids for one in found] == [one.ids for one in wanted]
    assert [one.score for one in found] == pytest.approx([one.score for one in wanted], abs=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_as_many_beams_as_there_are_texts_find_the_best_of_all(length_penalty: float, kind: str) -> None:
    num_ids, max_length = 4, 4
    of = rules(num_beams=num_ids**max_length, max_length=max_length, length_penalty=length_penalty)
    all_texts = [
        text for size in range(max_length) for text in itertools.product([2, 3], repeat=size)
    ]  # no start, no end within
    for source, found in enumerate(search([0, 1, 2], num_ids, of, kind)):
        wanted = [
            Found(list(text), log_prob(source, text, num_ids) / (len(text) + 1) ** length_penalty) for text in all_texts
        ]
        assert len(found) == len(all_texts)
        same(found, sorted(wanted, key=lambda one: -one.score))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_beams": 1},
        {"num_beams": 5, "length_penalty": 0.3},
        {"min_length": 3},
        {"no_repeat_ngram": 1, "max_length": 7},
        {"no_repeat_ngram": 2, "max_length": 9, "min_length": 6},
        {"banned_ids": (START, 3, 4)},
    ],
)
def test_equals_the_readable_twin_for_each_source_of_a_batch(changes: dict, kind: str) -> None:
    of = rules(**changes)
    for source, found in enumerate(search(list(range(12)), 7, of, kind)):
        same(found, readable(source, 7, of))
        assert all(of.min_length <= len(one.ids) < of.max_length for one in found)


def test_one_beam_takes_the_most_probable_token_each_time(kind: str) -> None:
    for source, (found,) in enumerate(search(list(range(8)), 6, rules(num_beams=1, max_length=6), kind)):
        prefix: tuple[int, ...] = (START,)
        total = 0.0
        while len(prefix) < 7:
            shares = logits(source, prefix, 6).float().log_softmax(-1)
            shares[START] = -math.inf
            token = END if len(prefix) == 6 else int(shares.argmax())
            total += float(shares[token])
            prefix = (*prefix, token)
            if token == END:
                break
        assert found.ids == list(prefix[1:-1])
        assert found.score == pytest.approx(total / (len(prefix) - 1), abs=1e-5)


def test_no_text_where_the_rules_allow_none(kind: str) -> None:
    of = rules(banned_ids=(0, 2, 3), min_length=2, num_beams=2)
    assert search([0, 1], 4, of, kind) == [[], []]


@pytest.mark.parametrize(("num_ids", "count"), [(50, 8), (50, 10_000), (1000, 8), (4 * 64 * 9, 20), (7, 20)])
@pytest.mark.parametrize("only", [None, END])
def test_both_find_the_same_best_continuations(num_ids: int, count: int, only: int | None) -> None:
    generator = np.random.default_rng(0)
    said = generator.normal(0, 3, (12, num_ids)).astype(np.float32)
    scores = generator.normal(-5, 2, (3, 4)).astype(np.float32)
    scores[1, 2] = -np.inf
    ask = Ask(np.arange(12), scores, count, only, np.array([0, 6]), np.array([0, 0, 7]), np.array([3, 4, 5]))
    ours, theirs = (BEST[name](torch.from_numpy(said.copy()), ask) for name in sorted(BEST))
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    finite = ours.scores > -np.inf
    all_of = [4 * (num_ids - 2) - 2, 3 * (num_ids - 2) - 1, 4 * (num_ids - 2)]
    assert finite.sum(1).tolist() == [min(count, one) for one in ([4, 3, 4] if only == END else all_of)]
    for one, other in ((ours.parents, theirs.parents), (ours.ids, theirs.ids)):
        np.testing.assert_array_equal(one[finite], other[finite])
