"""Beam search over any network that lengthens hypotheses by a token (Wu et al. 2016, section 7); without torch.

B sources, W hypotheses to each, N = B * W, V ids, L tokens. All sources go side by side; those that are done leave the
batch. What is as wide as the vocabulary is the network's to compute, where its numbers lie; the search itself is here.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

_STRETCH = 64


@dataclass(frozen=True)
class BeamRules:
    """What a search looks for.

    Attributes:
        num_beams: W; 1 takes the most probable token each time.
        max_length: most tokens of a text, its end among them; the last place takes nothing but the end.
        min_length: fewest tokens before the end.
        length_penalty: a text's score is the sum of its log-probabilities over its number of tokens, its end among
            them, to this power: 0 is the plain sum and prefers short texts, 1 the mean.
        no_repeat_ngram: no sequence of so many tokens occurs twice in a text; 0 allows all.
        start_id: what every text begins behind.
        end_id: what ends it.
        banned_ids: what no text holds; the end may be among them, since it ends a text and is not in it.
    """

    num_beams: int
    max_length: int
    min_length: int
    length_penalty: float
    no_repeat_ngram: int
    start_id: int
    end_id: int
    banned_ids: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A finished text.

    Attributes:
        ids: its tokens, without start and end.
        score: sum of log-probabilities in nats, the end's among them, over the length to the power of the penalty.
    """

    ids: list[int]
    score: float


@dataclass(frozen=True)
class Ask:
    """What a search wants to know of the network at one step.

    Attributes:
        tokens: the last one of each hypothesis, (N,) int64, the hypotheses of the first source first.
        scores: sum of the log-probabilities of each hypothesis, (B, W) float32; -inf for one that must not go on.
        count: of the continuations that are looked at, for each source.
        only: the one id that may follow; `None` where others may too.
        banned: ids that follow no hypothesis, (n,) int64.
        rows: hypotheses that one more id each must not follow, (m,) int64; one may stand here several times.
        ids: these ids, (m,) int64.
    """

    tokens: np.ndarray
    scores: np.ndarray
    count: int
    only: int | None
    banned: np.ndarray
    rows: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Best:
    """The best continuations of each source, C of them: as many as asked for, at most all.

    Attributes:
        scores: sums of a hypothesis' score and a next token's log-probability, descending, (B, C) float32; -inf for
            what is forbidden.
        parents: the hypotheses, from 0 to W - 1, (B, C) int64.
        ids: the next tokens, (B, C) int64.
    """

    scores: np.ndarray
    parents: np.ndarray
    ids: np.ndarray


class Steps(Protocol):
    """What writes: its hypotheses all have the same length, W of them for each source, side by side."""

    def best(self, ask: Ask) -> Best:
        """Lengthen each hypothesis by its token, and find the best that can follow."""

    def select(self, hypotheses: np.ndarray, sources: np.ndarray | None = None) -> None:
        """Go on with the old hypotheses of these numbers, and with these sources; None keeps all sources."""


def beam_search(network: Steps, num_sources: int, rules: BeamRules) -> list[list[Found]]:
    """Write a text for each source.

    At each step the 2 W best continuations of a source are looked at: those among the first W that end are finished
    texts, and the best W that do not end go on. A source is done when it has W finished texts.

    Args:
        network: not yet lengthened, with `num_beams` hypotheses for each source.
        num_sources: B.
        rules: what to look for.

    Returns:
        Of each source up to W texts, best first. None where the rules allow none.
    """
    search = _Search(network, num_sources, rules)
    for length in range(1, rules.max_length + 1):
        search.lengthen(length)
        if not len(search.alive):
            break
    return search.finished


def best_of(logits: np.ndarray, ask: Ask) -> Best:
    """The best continuations by logits that lie here.

    Args:
        logits: (N, V) float32 behind the lengthened hypotheses; they are overwritten.
        ask: by the search.
    """
    num_ids = logits.shape[1]
    greatest = logits.max(1)
    shares = np.log(np.exp(logits - greatest[:, None]).sum(1)) + greatest
    logits += (ask.scores.ravel() - shares)[:, None]
    if ask.only is not None:
        kept = logits[:, ask.only].copy()
        logits[:] = -np.inf
        logits[:, ask.only] = kept
    logits[:, ask.banned] = -np.inf
    logits[ask.rows, ask.ids] = -np.inf
    rows = logits.reshape(len(ask.scores), -1)
    places = _greatest(rows, min(ask.count, rows.shape[1]))
    parents, ids = np.divmod(places, num_ids)
    return Best(np.take_along_axis(rows, places, 1), parents, ids)


def _greatest(rows: np.ndarray, count: int) -> np.ndarray:
    """Places of the greatest numbers of each row, descending.

    They lie in the stretches of a row whose maxima are the greatest; to look there alone is five times as fast.
    """
    every = np.arange(rows.shape[1])
    places = np.broadcast_to(every, rows.shape)
    whole = rows.shape[1] // _STRETCH
    if whole > count:
        maxima = rows[:, : whole * _STRETCH].reshape(len(rows), whole, _STRETCH).max(2)
        stretches = np.argpartition(maxima, -count, axis=1)[:, -count:]
        inside = (stretches[:, :, None] * _STRETCH + every[:_STRETCH]).reshape(len(rows), -1)
        places = np.concatenate([inside, places[:, whole * _STRETCH :]], 1)
    values = np.take_along_axis(rows, places, 1)
    near = np.argpartition(values, -count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(values, near, 1), axis=1, kind="stable")
    return np.take_along_axis(places, np.take_along_axis(near, order, 1), 1)


class _Search:
    """The live hypotheses of the sources that are not done, and the finished texts of all."""

    def __init__(self, network: Steps, num_sources: int, rules: BeamRules) -> None:
        self.network = network
        self.rules = rules
        self.finished: list[list[Found]] = [[] for _ in range(num_sources)]
        self.alive = np.arange(num_sources)
        self.scores = np.full((num_sources, rules.num_beams), -np.inf, np.float32)
        self.scores[:, 0] = 0.0  # all hypotheses are still the same one
        self.tokens = np.full((num_sources * rules.num_beams, 1), rules.start_id, np.int64)

    def lengthen(self, length: int) -> None:
        """Look for the token number `length` of each text, from 1."""
        width = self.rules.num_beams
        best = self.network.best(self._ask(length))
        ends = best.ids == self.rules.end_id
        self._finish(np.where(ends, best.scores, -np.inf)[:, :width], best.parents[:, :width], length)
        # the best that do not end, in their order; where there are too few, an ended one without a chance fills in
        order = np.argsort(ends, axis=1, kind="stable")[:, :width]
        kept = (np.where(ends, -np.inf, best.scores), best.parents, best.ids)
        self._go_on(*(np.take_along_axis(values, order, 1) for values in kept))

    def _ask(self, length: int) -> Ask:
        rules = self.rules
        is_short, is_full = length <= rules.min_length, length == rules.max_length
        banned = sorted({*rules.banned_ids} - {rules.end_id}) + [rules.end_id] * is_short
        rows, ids = _repeating(self.tokens[:, 1:], rules.no_repeat_ngram)
        return Ask(
            tokens=self.tokens[:, -1],
            scores=self.scores,
            count=2 * rules.num_beams,
            only=rules.end_id if is_full else None,
            banned=np.array(banned, np.int64),
            rows=rows,
            ids=ids,
        )

    def _finish(self, scores: np.ndarray, parents: np.ndarray, length: int) -> None:
        """Keep the finished texts among the first W continuations."""
        for at, rank in np.argwhere(scores > -np.inf).tolist():
            ids = self.tokens[at * self.rules.num_beams + parents[at, rank], 1:].tolist()
            source = int(self.alive[at])
            kept = [*self.finished[source], Found(ids, float(scores[at, rank]) / length**self.rules.length_penalty)]
            self.finished[source] = sorted(kept, key=lambda one: -one.score)[: self.rules.num_beams]

    def _go_on(self, scores: np.ndarray, parents: np.ndarray, ids: np.ndarray) -> None:
        """Lengthen the hypotheses that go on, and leave out the sources that are done."""
        width = self.rules.num_beams
        rows = np.flatnonzero([len(self.finished[source]) < width for source in self.alive])
        hypotheses = (rows[:, None] * width + parents[rows]).ravel()
        if len(rows):
            self.network.select(hypotheses, None if len(rows) == len(self.alive) else rows)
        self.alive, self.scores = self.alive[rows], scores[rows]
        self.tokens = np.concatenate([self.tokens[hypotheses], ids[rows].reshape(-1, 1)], 1)


def _repeating(tokens: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of (N, t) tokens, and the ids that would bring back in them a sequence of `size` tokens; none for size 0."""
    if size == 0 or tokens.shape[1] < size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
    last = tokens[:, tokens.shape[1] - size + 1 :]
    rows, at = np.nonzero((windows[..., :-1] == last[:, None]).all(-1))
    return rows, windows[rows, at, -1]
