"""The command that writes a model for machines without torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.use import Asked, labelled
from unmask.errors import UsageError


def export(
    model: ModelFolder,
    *,
    output: Path,
    dev: Path | None = None,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    label_column: str | None = None,
    max_drop: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 0.5,
) -> None:
    """Write a model as one ONNX file with its tokenizer, to be used without torch.

    The products are in float32, or with --precision int8 smaller, faster and a little less exact. The folder is written
    only if its answers on the certified texts are those of the model. Without torch it is opened by
    unmask.light.LightPredictor.load(OUTPUT).

    Args:
        model: Model folder.
        output: New folder; it must not exist.
        dev: Labelled rows that the model has not learned from, which int8 needs, to measure what it costs.
        label_column: Column of the label in DEV.
        max_drop: Most that int8 may lose of the main score on DEV: points (hundredths) of a share, per cent of others.
    """
    computing = asked.computing
    if computing.engine not in ("auto", "onnx"):
        raise UsageError("no-export", "what is exported is for onnxruntime", place="--engine", value=computing.engine)
    precision = "float32" if computing.precision == "auto" else computing.precision
    heavy("unmask.runtime:use_cpu")(computing.threads)
    load = heavy("unmask.predict:Predictor").load
    exact = {"engine": "torch", "precision": "float32", "device": "cpu"}
    task = load(model, **asked.changes(label_column=label_column), **exact).task
    made = heavy("unmask.compress.export:export")(
        task,
        output,
        precision=precision,
        dev=None if dev is None else labelled(dev, task, asked.names),
        max_drop=max_drop,
        threads=computing.threads or heavy("unmask.runtime:cpu_cores")(),
    )
    say(str(made))
    say(f"model: {output}")
