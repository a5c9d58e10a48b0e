"""The encoder by kernels of our own: a whole pass over packed texts in one call, in float32, bfloat16 or int8.

Weights are packed once; a block of tokens goes through a whole layer while its numbers are in the cache; threads take
blocks as they come free. Each row is quantised by its own scale and summed in one order, so that a text's numbers are
the same bits alone and in any batch, on one thread and on many.
"""

import ctypes
import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from unmask.engine.compiled import Library
from unmask.errors import ResourceError
from unmask.model.encoder import Encoder, Layer
from unmask.model.layers import LayerNorm, Linear
from unmask.model.layout import Layout
from unmask.runtime import unload

PRODUCTS = ("qkv", "attention_out", "up", "down")


class NativeEncoder(nn.Module):
    """What `Encoder` computes in evaluation, outside autograd; it takes the encoder's place in a task.

    Args:
        encoder: float32 weights on the CPU; they are copied, its embedding tables are shared.
        library: the kernels.
        precision: format of the products: float32, bfloat16 or int8 (weights by a scale an output, rows by their own).
        threads: of one pass.
        keep: products in another format, such as {"3.down": "bfloat16"}: number of the layer, name in `Layer`.

    Raises:
        ResourceError: the processor lacks the instructions for a format, or there is not enough memory.
    """

    attention_dropout = 0.0

    def __init__(
        self,
        encoder: Encoder,
        library: Library,
        precision: str,
        *,
        threads: int,
        keep: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        for one in {precision, *(keep or {}).values()}:
            if not library.runs(one):
                raise ResourceError(
                    "no-instructions",
                    f"this processor has no instructions for {one}",
                    remedy="take --precision float32",
                )
        self.config, self.embeddings = encoder.config, encoder.embeddings
        self._calls, self._handle, self._process = library.calls, ctypes.c_void_p(), os.getpid()
        config = encoder.config
        _check(
            self._calls.unmask_create(
                config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size,
                config.layer_norm_eps, library.attention_format(precision), threads, ctypes.byref(self._handle),
            )
        )  # fmt: skip
        for number, layer in enumerate(encoder.layers):
            assert isinstance(layer, Layer), "the encoder is made of these alone"
            for place, name in enumerate(PRODUCTS):
                kind = library.format((keep or {}).get(f"{number}.{name}", precision))
                self._set_product(number, place, kind, getattr(layer, name))
            self._set_norm(number, 0, layer.attention_norm)
            self._set_norm(number, 1, layer.norm)
            unload(layer.parameters())  # packed, and not read again
        self._set_norm(-1, 0, encoder.embeddings.norm)
        tables = (encoder.embeddings.word, encoder.embeddings.position, encoder.embeddings.token_type)
        self._tables = [_floats(table.weight) for table in tables]  # kept: the library reads them where they are
        self._calls.unmask_set_tables(self._handle, *map(_address, self._tables))

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
        needed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode packed texts; arguments as of `Encoder.forward`.

        Returns:
            (T, D) or (N, D) float32.

        Raises:
            ValueError: a text is longer than max_length, there are not as many ids and positions as tokens in `layout`,
                or an id, a position, a token type or a needed place is out of range.
            ResourceError: there is not enough memory for this batch.
        """
        return self._encode(input_ids, position_ids, layout, token_type_ids, needed)[0]

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What every layer gives: the embeddings, then the output of each layer, (T, D) float32 each.

        Arguments and errors as of `forward`.
        """
        shape = (self.config.num_hidden_layers + 1, len(input_ids), self.config.hidden_size)
        states = torch.empty(shape)
        self._encode(input_ids, position_ids, layout, token_type_ids, None, states)
        return list(states)

    def __del__(self) -> None:
        """Give the memory back; not in a forked child, which has none of the threads."""
        if getattr(self, "_handle", None) and self._process == os.getpid():
            self._calls.unmask_free(self._handle)

    def _encode(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        token_type_ids: torch.Tensor | None,
        needed: torch.Tensor | None,
        states: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        config = self.config
        if layout.max_seqlen > config.max_length:
            raise ValueError(f"a text of {layout.max_seqlen} tokens; the model takes {config.max_length}")
        if not layout.num_tokens == len(input_ids) == len(position_ids):
            raise ValueError(f"{len(input_ids)} ids and {len(position_ids)} positions for {layout.num_tokens} tokens")
        ids = _indices(input_ids, config.vocab_size, "token id")
        positions = _indices(position_ids, config.num_positions, "position")
        types = None if token_type_ids is None else _indices(token_type_ids, config.type_vocab_size, "token type")
        places = None if needed is None else _indices(needed, len(ids), "needed place")
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(layout.lengths)]))
        out = torch.empty(len(ids) if places is None else len(places), config.hidden_size)
        _check(
            self._calls.unmask_encode(
                self._handle, _address(ids), _address(positions), _address(types), _address(starts), layout.num_texts,
                _address(places), 0 if places is None else len(places), _address(out), _address(states),
            )
        )  # fmt: skip
        return out, states

    def _set_product(self, layer: int, place: int, kind: int, linear: Linear) -> None:
        weight, bias = _floats(linear.weight), _floats(linear.bias)
        arguments = (_address(weight), _address(bias), *weight.shape)
        _check(self._calls.unmask_set_product(self._handle, layer, place, kind, *arguments))

    def _set_norm(self, layer: int, place: int, norm: LayerNorm) -> None:
        weight, bias = _floats(norm.weight), _floats(norm.bias)
        _check(self._calls.unmask_set_norm(self._handle, layer, place, _address(weight), _address(bias)))


def _indices(values: torch.Tensor, size: int, what: str) -> torch.Tensor:
    """int64 numbers in one piece, all below `size`: the kernels read memory by them."""
    ready = values.to("cpu", torch.int64).contiguous()
    if len(ready):
        low, high = (int(one) for one in torch.aminmax(ready))
        if low < 0 or high >= size:
            raise ValueError(f"a {what} of {low if low < 0 else high}; the model has {size}")
    return ready


def _floats(values: torch.Tensor) -> torch.Tensor:
    return values.detach().to(torch.float32).contiguous()


def _address(values: torch.Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def _check(code: int) -> None:
    if code:
        raise ResourceError(
            "no-memory",
            "there is not enough memory for this batch" if code == 1 else "the compiled kernels failed",
            remedy="take smaller batches by a lower --max-tokens, or --engine torch",
        )
