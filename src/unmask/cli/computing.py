"""What computes the answers: flags that all commands share that open a model."""

import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from unmask.cli import heavy
from unmask.config import Settings

log = logging.getLogger("unmask")


class Computing(Settings):
    """What computes the answers."""

    engine: str = "auto"
    """`native` (compiled kernels), `onnx` (onnxruntime), `torch`, or `auto`: the kernels, or what is measured best."""
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Format of the encoder's products; `auto` is float32, or a faster one that the folder certifies."""
    threads: int | None = Field(default=None, ge=1)
    """Threads on the CPU; by default one for each core."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU where there is one, and neither int8 nor an engine of the CPU is named."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one pass, which its memory hangs on; by default 8,192, of an exported model 2,048."""

    def open(self, model: Path, **given: Any) -> Any:
        """A predictor that computes so, by a model folder or by one that `unmask export` wrote; says by which engine.

        Args:
            model: folder.
            given: other arguments of `Predictor.load`.
        """
        heavy("unmask.runtime:use_cpu")(self.threads)
        is_exported = heavy("unmask.checkpoint:is_exported")(model)
        load = heavy("unmask.exported:open_exported") if is_exported else heavy("unmask.predict:Predictor").load
        predictor = load(model, **self.model_dump(exclude_none=True), **given)
        log.info("engine: %s", predictor.engine)
        return predictor
