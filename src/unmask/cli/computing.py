"""What computes the answers: flags that all commands share that open a model."""

import logging
from collections.abc import Callable
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
        """A predictor that computes so; says which engine that is.

        Args:
            model: folder.
            given: other arguments of `Predictor.load`.
        """
        return self.open_by(heavy("unmask.predict:Predictor").load, model, **given)

    def open_by(self, load: Callable[..., Any], model: Path, **given: Any) -> Any:
        """The same by another function than `Predictor.load`, which takes its arguments."""
        heavy("unmask.runtime:use_cpu")(self.threads)
        predictor = load(model, **self.model_dump(exclude_none=True), **given)
        log.info("engine: %s", predictor.engine)
        return predictor
