"""Commands that make a model smaller or faster."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.rows import labelled
from unmask.cli.use import Asked
from unmask.errors import UsageError

_USUAL = {"device": ("auto", "cpu"), "max_tokens": (None,)}


def quantize(
    model: ModelFolder,
    *,
    dev: Path,
    output: Path,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    label_column: str | None = None,
    max_drop: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 0.5,
) -> None:
    """Prove on labelled rows that a model may be computed in a lower precision, and write it with the proof.

    Where int8 (or --precision bfloat16) loses too much, the products that matter most are kept more exact. If that does
    not help, nothing is written. The weights in OUTPUT stay float32 and are quantised when they are loaded, so that
    other programs open the folder too; unmask then takes the lower precision by itself where it is faster.

    Args:
        model: Model folder.
        dev: Labelled rows that the model has not learned from.
        output: New model folder; it must not exist.
        label_column: Column of the label in DEV.
        max_drop: Most that may be lost of the main score: points (hundredths) of a share, per cent of anything else.
    """
    computing = asked.computing
    for name, usual in _USUAL.items():
        if getattr(computing, name) not in usual:
            raise UsageError(
                "no-quantisation",
                "precisions are proven on the processor, in batches of the usual size",
                place=f"--{name.replace('_', '-')}",
                value=getattr(computing, name),
                remedy="leave it out; what --precision bfloat16 proves on the processor holds on a GPU too",
            )
    precision = "int8" if computing.precision == "auto" else computing.precision
    heavy("unmask.runtime:use_cpu")(computing.threads)
    load = heavy("unmask.predict:Predictor").load
    exact = {"engine": "torch", "precision": "float32", "device": "cpu"}
    task = load(model, **asked.changes(label_column=label_column), **exact).task
    found = heavy("unmask.compress.quantize:quantize")(
        model,
        task,
        labelled(dev, task, asked.reading.names),
        output,
        precision=precision,
        max_drop=max_drop,
        engine=computing.engine,
        threads=computing.threads,
    )
    say(str(found))
    say(f"model: {output}")
