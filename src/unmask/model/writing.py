"""Texts written by a network that lies elsewhere, such as in an exported graph: a token at a time, without torch.

The network has two ends. Asked without target tokens it reads sources, and gives what each layer of the decoder attends
to; asked with one token a hypothesis it gives the logits of the next ones, and what each layer is to remember. What an
end does not read is empty. B sources of S tokens, W hypotheses to each, N = B * W, t tokens before this one, H heads of
width K, V ids.
"""

from collections.abc import Callable, Mapping

import numpy as np

from unmask.model.beam import Ask, Best, best_of
from unmask.model.config import EncoderConfig

Network = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
"""Computes all outputs from inputs by name."""
TARGET = "target_ids"
"""The last token of each hypothesis, (N,) int64."""


def layer_names(kind: str, depth: int) -> list[str]:
    """Names of the keys and values of each layer of a decoder, float32.

    Args:
        kind: `cross`, of the sources, (B, H, S, K), or `past`, of the tokens before, (N, H, t, K).
        depth: number of layers.
    """
    return [f"{kind}_{part}_{at}" for at in range(depth) for part in ("keys", "values")]


def output_names(depth: int) -> list[str]:
    """Names of the outputs, float32: logits (N, V), and each layer's keys and values.

    These are of the sources, (B, H, S, K), or of the tokens up to this one, (N, H, t + 1, K).
    """
    return ["logits", *layer_names("present", depth)]


class Writing:
    """Hypotheses of the same length, W for each source, and all that the next token needs of the last ones.

    Args:
        network: with both ends.
        config: of encoder and decoder.
        sources: what the encoder reads of a padded batch, as `data.features.padded` gives it.
        depth: layers of the decoder.
        num_beams: W.
    """

    def __init__(
        self,
        network: Network,
        config: EncoderConfig,
        sources: Mapping[str, np.ndarray],
        *,
        depth: int,
        num_beams: int = 1,
    ) -> None:
        heads = config.num_attention_heads
        unread = np.zeros((0, heads, 0, config.hidden_size // heads), np.float32)
        names = [*layer_names("cross", depth), *layer_names("past", depth)]
        self._network = network
        self._depth = depth
        self._mask = sources["attention_mask"]
        _, *self._cross = network({TARGET: np.zeros(0, np.int64), **dict.fromkeys(names, unread), **sources})
        self._past = [np.zeros((len(self._mask) * num_beams, *unread.shape[1:]), np.float32)] * (2 * depth)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Lengthen each hypothesis by a token.

        Args:
            tokens: (N,) int64, the hypotheses of the first source first.

        Returns:
            (N, V) float32 logits of the tokens after them.
        """
        feeds: dict[str, np.ndarray] = dict.fromkeys(("input_ids", "token_type_ids"), np.zeros((0, 0), np.int64))
        feeds |= {TARGET: np.ascontiguousarray(tokens), "attention_mask": self._mask}
        for kind, values in (("cross", self._cross), ("past", self._past)):
            feeds |= dict(zip(layer_names(kind, self._depth), values, strict=True))
        logits, *self._past = self._network(feeds)
        return logits

    def best(self, ask: Ask) -> Best:
        """Lengthen each hypothesis, and find the best that can follow."""
        return best_of(self.step(ask.tokens), ask)

    def select(self, hypotheses: np.ndarray, sources: np.ndarray | None = None) -> None:
        """Go on with other hypotheses in the place of these.

        Args:
            hypotheses: (N',) int64, old number of each new one; W of them for each source that is kept.
            sources: (B',) int64, numbers of the sources that are kept, ascending; None keeps all.
        """
        self._past = [past[hypotheses] for past in self._past]
        if sources is not None:
            self._cross = [values[sources] for values in self._cross]
            self._mask = self._mask[sources]
