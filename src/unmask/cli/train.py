"""Commands that train."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from unmask.cli import MaybeModelFolder, heavy, say
from unmask.config import Settings, flags, load_recipe, resolve
from unmask.train.settings import BuildSettings, FinetuneSettings, PretrainSettings, RepeatSettings


def pretrain(
    *,
    corpus: list[Path],
    output: Path,
    model: MaybeModelFolder = None,
    recipe: str | None = None,
    dry_run: bool = False,
    settings: Annotated[PretrainSettings, Parameter(name="*")] = PretrainSettings(),  # noqa: B008
) -> None:
    """Pre-train a RoBERTa on one corpus folder or several.

    The same command again goes on with an unfinished run. RUN/model is the finished model folder. On several cards or
    hosts: torchrun --nproc-per-node N -m unmask pretrain ...

    Args:
        corpus: Corpus folder, written by `unmask corpus build`; give it again for each further corpus.
        output: Run folder.
        model: Model folder to go on from, such as a published RoBERTa; it grows to sizes that are given. By default
            random weights.
        recipe: Name of a recipe, or a TOML file; flags win over it. By default mini, with --model continue.
        dry_run: Do one step of everything, say what the run would take, and leave nothing behind.
    """
    chosen = recipe or ("mini" if model is None else "continue")
    resolved = resolve(
        PretrainSettings, load_recipe(chosen, "pretrain"), flags(settings), place=f"recipe {chosen} and flags"
    )
    if dry_run:
        for line in heavy("unmask.train.dry_run:dry_run")(corpus, output, resolved, model=model).to_lines():
            say(line)
        return
    result = heavy("unmask.train.pretrain:pretrain")(corpus, output, resolved, model=model)
    if heavy("unmask.runtime:rank")():
        return
    _say_pretrained(result)


def _say_pretrained(result: Any) -> None:
    say(
        f"held out: {result.loss:.4f} nats per masked token, perplexity {result.perplexity:.2f}, "
        f"{result.bits_per_byte:.4f} bits per byte"
    )
    say(f"model: {result.model}")
    say(f"report: {result.report}")


def build(
    *files: Path,
    output: Path,
    recipe: str | None = None,
    processes: int | None = None,
    settings: Annotated[BuildSettings, Parameter(name="*")] = BuildSettings(),  # noqa: B008
) -> None:
    """Make an encoder from files of text: tokenizer, corpus, pre-training, with the settings of one recipe.

    The same command again goes on with what is not finished. OUTPUT/pretrain/model is the finished model folder.

    Args:
        files: Files or folders of text: plain (a blank line ends a document) or JSONL with `text`, compressed or not.
        output: Folder of the tokenizer, the corpus and the run.
        recipe: Name of a recipe, or a TOML file; flags win over it.
        processes: Worker processes that build the corpus; by default one for each core.
    """
    own = heavy("unmask.train.build:without_foreign_card")
    layers = [own(load_recipe(recipe, "build"), files)] if recipe else []
    resolved = resolve(BuildSettings, *layers, flags(settings), place=f"recipe {recipe} and flags")
    _say_pretrained(heavy("unmask.train.build:build")(files, output, resolved, processes=processes))


class Source(Settings):
    """What a fine-tuning learns from beside its rows, and starts with."""

    dev: Path | None = None
    """Rows to choose the best epoch and to score on; by default the dev file in FILE, or a share of its rows."""
    model: str = "auto"
    """Model folder to start from, name of a bundled one, `random`, or `auto`: the bundled one of the rows' script."""
    task: str | None = None
    """Name of the task, or module:Class; by default what the rows are for."""
    recipe: str | None = None
    """Name of a recipe, or a TOML file; flags win over it."""

    def inputs(self, settings: FinetuneSettings) -> dict[str, Any]:
        """The same for `read_job`, with the flags as the last layer of its settings."""
        recipe = [load_recipe(self.recipe, "finetune")] if self.recipe else []
        return {"dev": self.dev, "model": self.model, "task": self.task, "given": (*recipe, flags(settings))}


def finetune(
    file: Path,
    *,
    output: Path | None = None,
    source: Annotated[Source, Parameter(name="*")] = Source(),  # noqa: B008
    repeat: Annotated[RepeatSettings, Parameter(name="*")] = RepeatSettings(),  # noqa: B008
    settings: Annotated[FinetuneSettings, Parameter(name="*")] = FinetuneSettings(),  # noqa: B008
) -> None:
    """Fine-tune a model on a file of labelled rows: CSV, TSV, JSONL, Parquet and the published formats of each task.

    What the file is, its columns and the task are inferred and printed. The same command again goes on with an
    unfinished run. RUN/model is the finished model folder.

    Args:
        file: Rows to train on, or a folder with one file (or folder) for training and perhaps one for dev.
        output: Run folder; by default `runs/` and the name of FILE.
    """
    output = output or Path("runs") / file.name.partition(".")[0]
    inputs = source.inputs(settings)
    if repeat.numbers or repeat.folds:
        summary = _repeated(file, output, inputs, repeat)
        for line in summary.to_lines():
            say(line)
        say(f"model: {output / 'model'}")
        say(f"report: {output / 'report.html'}")
        return
    result = heavy("unmask.train.finetune:finetune")(file, output, **inputs)
    say(f"dev {result.main_metric}: {result.main_score:.4f}")
    say(f"model: {result.model}")
    say(f"report: {result.report}")


def _repeated(file: Path, output: Path, inputs: dict[str, Any], repeat: RepeatSettings) -> Any:
    """The summary of runs over seeds or folds."""
    job, settings = heavy("unmask.train.job:read_job")(file, **inputs, output=output, is_split=not repeat.folds)
    if repeat.folds:
        return heavy("unmask.train.folds:cross_validate")(job, settings, output, repeat.folds, keep=repeat.keep)
    return heavy("unmask.train.folds:train_seeds")(
        job, settings, output, repeat.numbers, restart_collapsed=repeat.restart_collapsed
    )
