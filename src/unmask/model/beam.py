"""Beam search over any network that lengthens hypotheses by a token (Wu et al. 2016, section 7).

B sources, W hypotheses to each, V ids, L tokens. All sources go side by side; those that are done leave the batch.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Steps(Protocol):
    """What writes: its hypotheses all have the same length, W of them for each source, side by side."""

    def step(self, tokens: Tensor) -> Tensor:
        """Lengthen each hypothesis by one of (N,) tokens; returns the (N, V) logits of the tokens after them."""

    def select(self, hypotheses: Tensor, sources: Tensor | None = None) -> None:
        """Go on with the old hypotheses of these numbers, and with these sources; None keeps all sources."""


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


@torch.no_grad()
def beam_search(network: Steps, num_sources: int, rules: BeamRules, device: torch.device) -> list[list[Found]]:
    """Write a text for each source.

    At each step the 2 W best continuations of a source are looked at: those among the first W that end are finished
    texts, and the best W that do not end go on. A source is done when it has W finished texts.

    Args:
        network: not yet lengthened, with `num_beams` hypotheses for each source.
        num_sources: B.
        rules: what to look for.
        device: of the tokens.

    Returns:
        Of each source up to W texts, best first. None where the rules allow none.
    """
    search = _Search(network, num_sources, rules, device)
    for length in range(1, rules.max_length + 1):
        search.lengthen(length)
        if not len(search.alive):
            break
    return search.finished


class _Search:
    """The live hypotheses of the sources that are not done, and the finished texts of all."""

    def __init__(self, network: Steps, num_sources: int, rules: BeamRules, device: torch.device) -> None:
        self.network = network
        self.rules = rules
        self.finished: list[list[Found]] = [[] for _ in range(num_sources)]
        self.alive = torch.arange(num_sources)
        self.scores = torch.full((num_sources, rules.num_beams), -torch.inf, device=device)
        self.scores[:, 0] = 0.0  # all hypotheses are still the same one
        self.tokens = torch.full((num_sources * rules.num_beams, 1), rules.start_id, device=device)

    def lengthen(self, length: int) -> None:
        """Look for the token number `length` of each text, from 1."""
        width = self.rules.num_beams
        log_probs = self.network.step(self.tokens[:, -1]).float().log_softmax(-1)
        self._forbid(log_probs, length)
        count, num_ids = len(self.alive), log_probs.shape[1]
        totals = (self.scores.view(-1, 1) + log_probs).view(count, width * num_ids)
        best, places = totals.topk(min(2 * width, width * num_ids))
        ids, parents = places % num_ids, places // num_ids
        ends = ids == self.rules.end_id
        self._finish(best[:, :width].masked_fill(~ends[:, :width], -torch.inf), parents[:, :width], length)
        # the best that do not end, in their order; where there are too few, an ended one without a chance fills in
        order = torch.argsort(ends.to(torch.int8), dim=1, stable=True)[:, :width]
        scores = best.masked_fill(ends, -torch.inf).gather(1, order)
        self._go_on(scores, parents.gather(1, order), ids.gather(1, order))

    def _forbid(self, log_probs: Tensor, length: int) -> None:
        rules = self.rules
        end = log_probs[:, rules.end_id].clone()
        if length == rules.max_length:
            log_probs.fill_(-torch.inf)
        log_probs[:, list(rules.banned_ids)] = -torch.inf
        if rules.no_repeat_ngram:
            rows, ids = _repeating(self.tokens[:, 1:], rules.no_repeat_ngram)
            log_probs[rows, ids] = -torch.inf
        log_probs[:, rules.end_id] = end if length > rules.min_length else -torch.inf

    def _finish(self, scores: Tensor, parents: Tensor, length: int) -> None:
        """Keep the finished texts among the first W continuations."""
        rows, ranks = torch.nonzero(scores > -torch.inf, as_tuple=True)
        if not len(rows):
            return
        texts = self.tokens[rows * self.rules.num_beams + parents[rows, ranks], 1:].tolist()
        found = (scores[rows, ranks] / length**self.rules.length_penalty).tolist()
        for source, ids, score in zip(self.alive[rows.cpu()].tolist(), texts, found, strict=True):
            kept = [*self.finished[source], Found(ids, score)]
            self.finished[source] = sorted(kept, key=lambda one: -one.score)[: self.rules.num_beams]

    def _go_on(self, scores: Tensor, parents: Tensor, ids: Tensor) -> None:
        """Lengthen the hypotheses that go on, and leave out the sources that are done."""
        width = self.rules.num_beams
        is_open = [len(self.finished[source]) < width for source in self.alive.tolist()]
        kept = torch.tensor([at for at, open_ in enumerate(is_open) if open_], dtype=torch.int64)
        rows = kept.to(scores.device)
        hypotheses = (rows[:, None] * width + parents[rows]).flatten()
        if len(rows):
            self.network.select(hypotheses, None if all(is_open) else rows)
        self.alive, self.scores = self.alive[kept], scores[rows]
        self.tokens = torch.cat([self.tokens[hypotheses], ids[rows].view(-1, 1)], 1)


def _repeating(tokens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows of (N, t) tokens, and the ids that would bring back in them a sequence of `size` tokens."""
    if tokens.shape[1] < size:
        nothing = tokens.new_empty(0)
        return nothing, nothing
    windows = tokens.unfold(1, size, 1)
    last = tokens[:, tokens.shape[1] - size + 1 :]
    rows, at = torch.nonzero((windows[..., :-1] == last[:, None]).all(-1), as_tuple=True)
    return rows, windows[rows, at, -1]
