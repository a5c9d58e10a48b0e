"""A model folder that was made from others without training."""

from pathlib import Path

from unmask.certify import without_precisions
from unmask.checkpoint import Model, save_model
from unmask.golden import make_golden
from unmask.predict import build_task


def rewrite(output: Path, model: Model, *, source: Path, section: str) -> None:
    """Write changed weights as a whole model folder, with a certificate of its own.

    Args:
        output: the new folder; it must not exist.
        model: what it holds. The precisions that its weights were certified for are left out, for they are others now.
        source: folder whose card it goes on with.
        section: of the card, in Markdown, with its heading: what was done.
    """
    is_for_a_task = model.head is not None or "task" in model.meta
    task = build_task(model, place=output) if is_for_a_task else None
    readme = source / "README.md"
    card = readme.read_text("utf-8", errors="replace").rstrip() if readme.is_file() else f"# {source.resolve().name}"
    save_model(
        output,
        config=model.config,
        state_dict=model.state_dict,
        tokenizer=model.tokenizer,
        head=model.head,
        labels=model.labels,
        meta={name: value for name, value in model.meta.items() if name != "engine"},
        card="\n".join([without_precisions(card), "", section, ""]),
        golden=None if task is None else make_golden(task),
        problem_type=model.problem_type,
        files=None if task is None else task.files,
    )
