"""The command that makes one model of several."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unmask.bundled import find_model
from unmask.cli import heavy, say


def average(
    *models: Annotated[Path, Parameter(converter=lambda _, tokens: find_model(tokens[0].value))],
    output: Path,
    weight: list[float] | None = None,
) -> None:
    """Write the mean of the weights of several models of one start, such as the seeds of a fine-tuning.

    Models that were trained apart from their random weights on are refused, for their mean is worth nothing. What was
    fitted on dev rows, such as a temperature, is that of the first model; so is the card.

    Args:
        models: Model folders of one shape, tokenizer and task, with the same settings and labels; two or more.
        output: New model folder; it must not exist.
        weight: Share of the first model, of any sum; give it again for each further model. By default all count alike.
    """
    heavy("unmask.train.average:average_models")(models, output, weights=weight or ())
    say(f"model: {output}")
