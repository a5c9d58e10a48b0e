"""The command that searches for settings."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unmask.cli import heavy, say
from unmask.config import flags, load_recipe
from unmask.train.settings import FinetuneSettings, TuneSettings


def tune(
    file: Path,
    *,
    output: Path | None = None,
    dev: Path | None = None,
    model: Path | None = None,
    task: str | None = None,
    recipe: str | None = None,
    search: Annotated[TuneSettings, Parameter(name="*")] = TuneSettings(),  # noqa: B008
    settings: Annotated[FinetuneSettings, Parameter(name="*")] = FinetuneSettings(),  # noqa: B008
) -> None:
    """Search for good settings of a fine-tuning: learning rate, batch size, epochs, warm-up, dropout and decay.

    Needs optuna: pip install 'unmask[tune]'. The same command again goes on with an unfinished search. TUNE/best.toml
    is the recipe of the best trial, TUNE/model its model, TUNE/trials.tsv the table of all.

    Args:
        file: Rows to train on, as for `unmask finetune`.
        output: Folder of the search; by default `runs/tune-` and the name of FILE.
        dev: Rows to score on; by default a share of the rows is split off, the same in all trials.
        model: Model folder to start from; by default small random weights.
        task: Name of the task, or module:Class; by default what the rows are for.
        recipe: Name of a recipe, or a TOML file: settings that all trials share; flags win over it.
    """
    output = output or Path("runs") / f"tune-{file.name.partition('.')[0]}"
    layers = ([load_recipe(recipe, "finetune")] if recipe else []) + [flags(settings)]
    result = heavy("unmask.train.tune:tune")(file, output, search, dev=dev, model=model, task=task, given=tuple(layers))
    for line in result.to_lines():
        say(line)
    say(f"best: {result.metric} {result.best.score:.4f}, trial {result.best.number}")
    say(f"recipe: {result.recipe}")
    say(f"model: {result.model}")
