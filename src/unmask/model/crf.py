"""A linear-chain conditional random field on the tags of a text's words (Lafferty et al. 2001; Lample et al. 2016).

score(y | e) = start[y_1] + sum_t e[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_n], and p(y) is its softmax over
all paths y. C tags, N words of all texts, B texts.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.model.chain import Chain
from unmask.model.config import EncoderConfig
from unmask.model.heads import TaskHead
from unmask.model.layers import Linear
from unmask.runtime import upload


class CrfHead(TaskHead):
    """Dropout and one linear layer on the words' hidden states, and the scores of one tag behind another.

    Args:
        config: of the encoder.
        num_labels: C.
        dropout: rate; None takes hidden_dropout_prob.
    """

    def __init__(self, config: EncoderConfig, num_labels: int, dropout: float | None = None) -> None:
        super().__init__(config)
        self.out = Linear(config.hidden_size, num_labels)
        self.crf = nn.ParameterDict(
            {
                "transitions": nn.Parameter(torch.zeros(num_labels, num_labels)),
                "start": nn.Parameter(torch.zeros(num_labels)),
                "end": nn.Parameter(torch.zeros(num_labels)),
            }
        )
        self.dropout = config.hidden_dropout_prob if dropout is None else dropout
        self._fetched: tuple[list[tuple[int, int]], list[Tensor], Chain] | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, D) hidden states to (N, C) scores of each word's tags alone."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.out(F.dropout(hidden, self.dropout, self.training))

    def loss(self, emissions: Tensor, tags: Tensor, lengths: np.ndarray) -> Tensor:
        """Negative log-likelihood of the right paths, summed, a float32 scalar.

        Args:
            emissions: (N, C), the words of all texts one after the other.
            tags: (N,) int64.
            lengths: words of each text, (B,), with the sum N; a text may have none.
        """
        return negative_log_likelihood(
            emissions.float(), tags, lengths, self.crf["transitions"], self.crf["start"], self.crf["end"]
        )

    def chain(self) -> Chain:
        """The chain's numbers on the host, for answers; fetched anew where they have changed."""
        parts = [self.crf[name].detach() for name in ("transitions", "start", "end")]
        if any(one.is_inference() for one in parts):  # such tensors do not tell of changes
            return _chain(parts)
        state = [(one.data_ptr(), one._version) for one in parts]
        if self._fetched is None or self._fetched[0] != state:
            self._fetched = state, parts, _chain(parts)  # holding the parts, their addresses mean nothing else
        return self._fetched[2]


def _chain(parts: list[Tensor]) -> Chain:
    # copied: on the CPU the numbers would go on changing under the chain
    return Chain(*(one.float().cpu().numpy().copy() for one in parts))


def negative_log_likelihood(
    emissions: Tensor, tags: Tensor, lengths: np.ndarray, transitions: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """-log p(tags) summed over texts; the arguments are those of `CrfHead.loss` and the chain's scores."""
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return emissions.sum() * 0.0
    firsts = np.cumsum(lengths) - lengths
    inner = np.setdiff1d(np.arange(len(tags)), firsts)
    # Longest texts first: at step t the texts that still have words are the first ones. Words go step by step, so
    # that all places lie on the device before the first step.
    order = np.argsort(-lengths, kind="stable")
    going = [int((lengths > step).sum()) for step in range(int(lengths.max()))]
    steps = np.concatenate([firsts[order[:count]] + step for step, count in enumerate(going)])
    first, last, follow, places = _places([firsts, firsts + lengths - 1, inner, steps], tags)
    gold = emissions.gather(1, tags[:, None]).sum() + start[tags[first]].sum() + end[tags[last]].sum()
    gold = gold + transitions[tags[follow - 1], tags[follow]].sum()
    opening, *words = emissions.index_select(0, places).split_with_sizes(going)
    score, total = start + opening, emissions.new_zeros(())
    for found in words:
        total = total + torch.logsumexp(score[len(found) :] + end, dim=1).sum()
        score = torch.logsumexp(score[: len(found), :, None] + transitions, dim=1) + found
    return total + torch.logsumexp(score + end, dim=1).sum() - gold


def _places(indices: list[np.ndarray], like: Tensor) -> tuple[Tensor, ...]:
    """Several lists of places on the device of `like`, int64, by one copy."""
    together = upload(torch.from_numpy(np.concatenate(indices).astype(np.int64)), like.device)
    return together.split_with_sizes([len(one) for one in indices])
