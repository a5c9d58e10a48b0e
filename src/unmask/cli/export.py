"""The command that writes a model for machines without torch."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.rows import labelled
from unmask.cli.use import Question, Reading


def export(
    model: ModelFolder,
    *,
    output: Path,
    precision: Literal["float32", "int8"] = "float32",
    dev: Path | None = None,
    question: Annotated[Question, Parameter(name="*")] = Question(),  # noqa: B008
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008
    label_column: str | None = None,
    max_drop: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 0.5,
) -> None:
    """Write a model as one ONNX file with its tokenizer, to be used without torch.

    The folder is written only if its answers on the certified texts are those of the model. Without torch it is opened
    by unmask.light.LightPredictor.load(OUTPUT).

    Args:
        model: Model folder.
        output: New folder; it must not exist.
        precision: Format of the products; int8 is smaller and faster, and a little less exact.
        dev: Labelled rows that the model has not learned from, which int8 needs, to measure what it costs.
        label_column: Column of the label in DEV.
        max_drop: Most that int8 may lose of the main score on DEV: points (hundredths) of a share, per cent of others.
    """
    columns = {**reading.named, "label_column": label_column}
    exact = {"engine": "torch", "precision": "float32", "device": "cpu"}
    task = heavy("unmask.predict:Predictor").load(model, **question.changes(**columns), **exact).task
    rows = None if dev is None else labelled(dev, task, reading.names)
    made = heavy("unmask.compress.export:export")(task, output, precision=precision, dev=rows, max_drop=max_drop)
    say(str(made))
    say(f"model: {output}")
