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
        """The chain's numbers on the host, for answers."""
        return Chain(*(self.crf[name].detach().float().cpu().numpy() for name in ("transitions", "start", "end")))


def negative_log_likelihood(
    emissions: Tensor, tags: Tensor, lengths: np.ndarray, transitions: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """-log p(tags) summed over texts; the arguments are those of `CrfHead.loss` and the chain's scores."""
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return emissions.sum() * 0.0
    firsts = np.cumsum(lengths) - lengths
    inner = np.setdiff1d(np.arange(len(tags)), firsts)
    first, last = _places(firsts, tags), _places(firsts + lengths - 1, tags)
    follow = _places(inner, tags)
    gold = emissions.gather(1, tags[:, None]).sum() + start[tags[first]].sum() + end[tags[last]].sum()
    gold = gold + transitions[tags[follow - 1], tags[follow]].sum()
    # Longest texts first: at step t the texts that still have words are the first ones.
    order = np.argsort(-lengths, kind="stable")
    firsts, lengths = firsts[order], lengths[order]
    score = start + emissions[_places(firsts, tags)]
    total = emissions.new_zeros(())
    for step in range(1, int(lengths[0]) + 1):
        going = int((lengths > step).sum())
        total = total + torch.logsumexp(score[going:] + end, dim=1).sum()
        if going:
            reached = torch.logsumexp(score[:going, :, None] + transitions, dim=1)
            score = reached + emissions[_places(firsts[:going] + step, tags)]
    return total - gold


def _places(indices: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(indices.astype(np.int64)).to(like.device)
