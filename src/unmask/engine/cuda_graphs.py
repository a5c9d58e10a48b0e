"""Small batches on a CUDA card: the encoder's pass is recorded once for each of a few sizes, and played back.

A pass over few tokens takes as long as the host needs to start its kernels, one after the other; a recorded pass is
started at once. It always reads the same buffers, so a batch is copied into those of the next larger size. What lies
behind its tokens is filler in texts of its own, which no real token attends to.
"""

import logging
import threading
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import nn

from unmask.model.config import EncoderConfig
from unmask.model.encoder import Embeddings, Encoder
from unmask.model.layout import FixedLayout, Layout
from unmask.runtime import upload

log = logging.getLogger("unmask")

SIZES = (32, 64, 128, 256, 512)  # tokens; a batch beyond the last is computed as it is
_TOKENS_A_TEXT = 4  # one text for so many tokens has room in a buffer
_PLAIN_PASSES = 2  # of a size before it is recorded, which takes as long as many passes
_WARM_UPS = 2


def bounds_of(lengths: np.ndarray, *, size: int, longest: int) -> np.ndarray | None:
    """Where each text begins in a buffer, and the end: real texts, the filler's, and empty ones up to a fixed number.

    Args:
        lengths: tokens of the real texts, (B,).
        size: tokens of the buffer.
        longest: most tokens of a text of filler.

    Returns:
        (size / 4 + 1,) int32; `None` where the texts do not fit.
    """
    filler = size - int(lengths.sum())
    if filler < 0:
        return None
    whole, rest = divmod(filler, longest)
    ends = np.cumsum(np.concatenate([[0], lengths, np.full(whole, longest), [rest]]))
    empty = size // _TOKENS_A_TEXT + 1 - len(ends)
    return None if empty < 0 else np.pad(ends, (0, empty), mode="edge").astype(np.int32)


class Buffers:
    """What a recorded pass reads; its shapes are those of a size, whatever the texts.

    Args:
        encoder: in evaluation, on the device.
        size: tokens.
        has_types: whether the pass reads token types.
    """

    def __init__(self, encoder: Encoder, size: int, *, has_types: bool) -> None:
        self.encoder, self.size = encoder, size
        self.longest = min(size, encoder.config.max_length)
        device = encoder.embeddings.word.weight.device
        nothing = bounds_of(np.zeros(0, np.int64), size=size, longest=self.longest)
        with torch.inference_mode(False):  # they are written to in and out of that mode
            self.input_ids = torch.zeros(size, dtype=torch.int64, device=device)
            self.position_ids = torch.zeros_like(self.input_ids)
            self.token_type_ids = torch.zeros_like(self.input_ids) if has_types else None
            self.cu_seqlens = torch.tensor(nothing, device=device)

    def fill(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        bounds: np.ndarray,
        *,
        token_type_ids: torch.Tensor | None,
    ) -> None:
        """Write a batch to the front; behind it stay ids of earlier ones, which are as good a filler as any.

        Args:
            input_ids: (T,), T at most `size`.
            position_ids: (T,).
            bounds: what `bounds_of` gives for it.
            token_type_ids: (T,) where the pass reads them.
        """
        count = len(input_ids)
        self.input_ids[:count].copy_(input_ids)
        self.position_ids[:count].copy_(position_ids)
        self.cu_seqlens.copy_(upload(torch.from_numpy(bounds), self.cu_seqlens.device))
        if self.token_type_ids is not None and token_type_ids is not None:
            self.token_type_ids[:count].copy_(token_type_ids)

    def encode(self) -> torch.Tensor:
        """The pass over the buffers: (size, D) hidden states, of which the first T are the batch's."""
        # a layout of its own for each pass: what it computes from the buffers has to be part of what is recorded
        layout = FixedLayout(np.array([self.size]), self.cu_seqlens, self.longest, is_uniform=False)
        hidden: torch.Tensor = self.encoder(
            self.input_ids, self.position_ids, layout, token_type_ids=self.token_type_ids
        )
        return hidden


class Recording:
    """A pass over buffers, recorded when this is made.

    Args:
        buffers: on a CUDA card.
        pool: memory that all recordings share: none runs while another does, and what they give is kept.
    """

    def __init__(self, buffers: Buffers, pool: Any) -> None:
        self.buffers, self._graph = buffers, torch.cuda.CUDAGraph()
        with torch.cuda.device(buffers.input_ids.device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):
                    buffers.encode()
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._hidden = buffers.encode()

    def play(self) -> torch.Tensor:
        """(size, D) hidden states, which the next play overwrites."""
        self._graph.replay()
        return self._hidden


class GraphedEncoder(nn.Module):
    """What `Encoder` computes in evaluation on a card, outside autograd; it takes the encoder's place in a task.

    Args:
        encoder: on a CUDA card, in the number formats to compute in.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self._is_on_card = encoder.embeddings.word.weight.is_cuda
        self._recordings: dict[tuple[int, bool], Recording | None] = {}
        self._passes: Counter[tuple[int, bool]] = Counter()
        self._pool: Any = None
        self._lock = threading.Lock()

    @property
    def config(self) -> EncoderConfig:
        """Shape of the network."""
        return self.encoder.config

    @property
    def embeddings(self) -> Embeddings:
        """The tables of words, positions and token types."""
        return self.encoder.embeddings

    @property
    def attention_dropout(self) -> float:
        """Dropout of attention probabilities that the network is trained with."""
        return self.encoder.attention_dropout

    @torch.no_grad()
    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
        needed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode packed texts; arguments and errors as of `Encoder.forward`.

        Returns:
            (T, D) or (N, D) float32.
        """
        size, bounds = self._size_of(layout)
        key = (size, token_type_ids is not None)
        with self._lock:
            self._passes[key] += 1
            is_due = bounds is not None and self._passes[key] > _PLAIN_PASSES
            recording = self._recording(key) if is_due else None
            if recording is not None and bounds is not None:
                recording.buffers.fill(input_ids, position_ids, bounds, token_type_ids=token_type_ids)
                hidden = recording.play()
                return hidden[: len(input_ids)].clone() if needed is None else hidden.index_select(0, needed)
        plain: torch.Tensor = self.encoder(
            input_ids, position_ids, layout, token_type_ids=token_type_ids, needed=needed
        )
        return plain

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What every layer gives; never recorded, arguments and errors as of `Encoder.hidden_states`."""
        return self.encoder.hidden_states(input_ids, position_ids, layout, token_type_ids=token_type_ids)

    def _size_of(self, layout: Layout) -> tuple[int, np.ndarray | None]:
        """The smallest size that takes a batch, and the bounds of its texts there; 0 and `None` where none does."""
        is_usual = not (self.training or torch.is_autocast_enabled("cuda")) and self._is_on_card
        for size in SIZES if is_usual and layout.max_seqlen <= self.config.max_length else ():
            bounds = bounds_of(layout.lengths, size=size, longest=min(size, self.config.max_length))
            if bounds is not None:
                return size, bounds
        return 0, None

    def _recording(self, key: tuple[int, bool]) -> Recording | None:
        """The recording of a size, made at its first use; `None` for good where that fails, such as for memory."""
        if key not in self._recordings:
            size, has_types = key
            try:
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                self._recordings[key] = Recording(Buffers(self.encoder, size, has_types=has_types), self._pool)
            except RuntimeError as error:
                log.warning("passes of up to %d tokens are not recorded: %s", size, str(error).partition("\n")[0])
                self._recordings[key] = None
        return self._recordings[key]
