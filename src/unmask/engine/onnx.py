"""The encoder through onnxruntime, on any processor that it knows: the same call as the network's own."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from unmask.engine.onnx_graph import build
from unmask.engine.onnx_run import Runner
from unmask.model.encoder import Encoder
from unmask.model.layout import Group, Layout


class OnnxEncoder(nn.Module):
    """What `Encoder` computes in evaluation, outside autograd; it takes the encoder's place in a task.

    Texts are padded to groups of like length, each of which is one pass of the graph.

    Args:
        encoder: float32 weights; they are copied, its embedding tables are shared.
        precision: of the products: float32 or int8 (weights by a scale an output, rows by their own).
        threads: of one pass.
        keep: products in another format, such as {"3.down": "float32"}.
        has_states: give the output of every layer, for `hidden_states`; it takes their memory.

    Raises:
        UsageError: onnx or onnxruntime is not installed.
    """

    attention_dropout = 0.0

    def __init__(
        self,
        encoder: Encoder,
        precision: str,
        *,
        threads: int,
        keep: Mapping[str, str] | None = None,
        has_states: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.embeddings = encoder.config, encoder.embeddings
        graph, states = build(encoder, precision, needed="all" if has_states else "given", keep=keep)
        chosen = states if has_states else states[-1:]
        named = {f"state_{at}": (state, ("rows", self.config.hidden_size)) for at, state in enumerate(chosen)}
        self._run = Runner(graph.model(named), threads)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
        needed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode packed texts; arguments and errors as of `Encoder.forward`, positions are counted anew.

        Returns:
            (T, D) or (N, D) float32.
        """
        del position_ids
        rows = _rows(layout)
        rows = rows if needed is None else rows[needed.numpy()]
        found = np.empty((len(rows), self.config.hidden_size), np.float32)
        for group, feeds in self._groups(input_ids, token_type_ids, layout):
            inside = np.flatnonzero((rows >= group.start) & (rows < group.stop))
            if len(inside):
                places = rows[inside] - group.start
                state = self._run({**feeds, "needed": places})[-1]
                found[inside] = state if "needed" in self._run.inputs else state[places]
        return torch.from_numpy(found)

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What every layer gives: the embeddings, then the output of each layer, (T, D) float32 each."""
        del position_ids
        assert "needed" not in self._run.inputs, "made with has_states"
        rows = _rows(layout)
        parts = [self._run(feeds) for _, feeds in self._groups(input_ids, token_type_ids, layout)]
        return [torch.from_numpy(np.concatenate(layer)[rows]) for layer in zip(*parts, strict=True)]

    def _groups(
        self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None, layout: Layout
    ) -> Iterator[tuple[Group, dict[str, np.ndarray]]]:
        """Each group of texts, and what the graph reads of it."""
        if layout.max_seqlen > self.config.max_length:
            raise ValueError(f"a text of {layout.max_seqlen} tokens; the model takes {self.config.max_length}")
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        gather = layout.groups.gather
        ids, kinds = (one if gather is None else one[gather] for one in (input_ids, types))
        for group in layout.groups.parts:
            shape = (group.batch, group.length)
            mask = torch.ones(shape) if group.key_mask is None else group.key_mask
            named = {"input_ids": ids[group.start : group.stop], "token_type_ids": kinds[group.start : group.stop]}
            yield (
                group,
                {name: one.reshape(shape).long().numpy() for name, one in (named | {"attention_mask": mask}).items()},
            )


def _rows(layout: Layout) -> np.ndarray:
    """The row of the padded groups that holds each packed token, (T,) int64."""
    restore = layout.groups.restore
    return np.arange(layout.num_tokens) if restore is None else restore.numpy()
