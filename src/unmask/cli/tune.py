"""The command that searches for settings."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unmask.cli import heavy, say
from unmask.cli.train import Source
from unmask.train.settings import FinetuneSettings, TuneSettings


def tune(
    file: Path,
    *,
    output: Path | None = None,
    source: Annotated[Source, Parameter(name="*")] = Source(),  # noqa: B008
    search: Annotated[TuneSettings, Parameter(name="*")] = TuneSettings(),  # noqa: B008
    settings: Annotated[FinetuneSettings, Parameter(name="*")] = FinetuneSettings(),  # noqa: B008
) -> None:
    """Search for good settings of a fine-tuning: learning rate, batch size, epochs, warm-up, dropout and decay.

    Needs optuna: pip install 'unmask[tune]'. The same command again goes on with an unfinished search. TUNE/best.toml
    is the recipe of the best trial, TUNE/model its model, TUNE/trials.tsv the table of all.

    Args:
        file: Rows to train on, as for `unmask finetune`.
        output: Folder of the search; by default `runs/tune-` and the name of FILE.
    """
    output = output or Path("runs") / f"tune-{file.name.partition('.')[0]}"
    result = heavy("unmask.train.tune:tune")(file, output, search, **source.inputs(settings))
    for line in result.to_lines():
        say(line)
    say(f"best: {result.metric} {result.best.score:.4f}, trial {result.best.number}")
    say(f"recipe: {result.recipe}")
    say(f"model: {result.model}")
