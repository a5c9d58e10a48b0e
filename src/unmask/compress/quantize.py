"""A model folder with the proof that it may be computed in a lower precision.

The weights in the folder stay float32, so that transformers opens it too: they are quantised when it is loaded. What
is new is the certificate, by which `Predictor.load` takes the lower precision by itself where it is faster.
"""

from pathlib import Path
from typing import Any

from unmask.certify import MAX_DROP, Certificate, card_lines, certify, without_precisions
from unmask.checkpoint import Model, load_model, save_model
from unmask.data.rows import Table
from unmask.errors import NumericError, UsageError
from unmask.golden import make_golden, with_precisions
from unmask.tasks.base import Task


def quantize(
    folder: Path,
    task: Task,
    dev: Table,
    output: Path,
    *,
    precision: str = "int8",
    max_drop: float = MAX_DROP,
    engine: str = "auto",
    threads: int | None = None,
) -> Certificate:
    """Measure a precision on labelled rows and, if it loses little enough, write the folder with its certificate.

    Args:
        folder: a model folder of ours, or a published one with a head.
        task: the folder's, in float32: `Predictor.load(folder, engine="torch", precision="float32").task`.
        dev: labelled rows that the model has not learned from.
        output: the new model folder; it must not exist.
        precision: bfloat16 or int8.
        max_drop: most points (hundredths of a share, else per cent) of the main metric that may be lost.
        engine: that computes; by default the fastest one here.
        threads: of one pass.

    Raises:
        UsageError: `output` exists, there is no such precision, or the folder was made for another task.
        NumericError: too much is lost, even with nearly all products kept more exact; nothing is written.
        DataError: a row cannot be answered.
        ArtefactError: the folder is no model, or a corrupt one.
    """
    if output.exists():
        raise UsageError("exists", "the output folder exists already", place=output, remedy="choose another name")
    model = load_model(folder)
    if model.meta.get("task", {}).get("name", task.name) != task.name:
        raise UsageError(
            "other-task",
            f"the folder was made for '{model.meta['task']['name']}', and a certificate holds for its own task alone",
            place=folder,
            value=task.name,
            remedy="leave out --task",
        )
    (found,) = certify(task, dev, [precision], max_drop=max_drop, engine=engine, threads=threads)
    if not found.is_passed:
        raise NumericError(
            "too-inexact",
            f"{precision} loses {found.drop:.2f} of {found.metric} on these rows, even with {len(found.keep)} "
            f"products kept more exact; nothing was written",
            place=dev.path,
            value=f"{found.score:.4f}, exact {found.exact_score:.4f}",
            expected=f"a loss of at most {max_drop:g} (points of a share, else per cent)",
            remedy="allow more with --max-drop"
            + (", or take --precision bfloat16, which is more exact" if precision == "int8" else ""),
        )
    _save(output, folder, model, task, found)
    return found


def _save(output: Path, folder: Path, model: Model, task: Task, found: Certificate) -> None:
    engine = model.meta.get("engine", {}) | {found.precision: found.to_json()}
    named = {"task": {"name": task.name, "settings": task.settings.model_dump(mode="json")}}
    golden = with_precisions(model.golden or make_golden(task), {found.precision: found.golden})
    save_model(
        output,
        config=model.config,
        state_dict=model.state_dict,
        tokenizer=model.tokenizer,
        head=model.head,
        labels=model.labels,
        meta=named | model.meta | {"engine": engine},
        card=_card(folder, engine),
        golden=golden,
        problem_type=model.problem_type,
        files=task.files,
    )


def _card(folder: Path, engine: dict[str, Any]) -> str:
    """The old card with a section about all certified precisions."""
    readme = folder / "README.md"
    old = readme.read_text("utf-8", errors="replace").rstrip() if readme.is_file() else f"# {folder.resolve().name}"
    told = card_lines([Certificate(**one, golden={}) for one in engine.values()])
    return "\n".join([without_precisions(old), "", *told])
