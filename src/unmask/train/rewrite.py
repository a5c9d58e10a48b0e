"""A model folder that was made from others without training."""

import logging
import re
from dataclasses import replace
from pathlib import Path

from unmask.certify import without_precisions
from unmask.checkpoint import Model, save_model
from unmask.golden import make_golden
from unmask.predict import build_task

log = logging.getLogger("unmask")

_TITLE = re.compile(r"\A(---\n.*?\n---\n)?\s*# (?P<name>[^\n]+)", re.DOTALL)  # behind the front matter


def rewrite(output: Path, model: Model, *, source: Path, section: str) -> None:
    """Write changed weights as a whole model folder, with a certificate of its own.

    Args:
        output: the new folder; it must not exist.
        model: what it holds, and in which number format it is written. The precisions that its weights were certified
            for are left out, for they are others now.
        source: folder that it comes from, whose card goes on.
        section: of the card, in Markdown, with its heading: what was done.
    """
    if model.unused:
        log.info("left out, for they belong to no part of this network: %s", ", ".join(model.unused[:5]))
    model = replace(model, state_dict={name: one.to(model.dtype).float() for name, one in model.state_dict.items()})
    is_for_a_task = model.head is not None or "task" in model.meta
    task = build_task(model, place=source) if is_for_a_task else None
    save_model(
        output,
        config=model.config,
        state_dict=model.state_dict,
        tokenizer=model.tokenizer,
        head=model.head,
        labels=model.labels,
        meta={name: value for name, value in model.meta.items() if name != "engine"},
        card="\n".join([_card(source, output), "", section, ""]),
        golden=None if task is None else make_golden(task),
        problem_type=model.problem_type,
        dtype=model.dtype,
        files=None if task is None else task.files,
    )


def _card(source: Path, output: Path) -> str:
    """The source's card under the new name."""
    readme, name = source / "README.md", output.resolve().name
    if not readme.is_file():
        return f"# {name}"
    old = without_precisions(readme.read_text("utf-8", errors="replace").rstrip())
    title = _TITLE.search(old)
    if title is None:
        return old
    renamed = old[: title.start("name")] + name + old[title.end("name") :]
    return renamed.replace(f'Predictor.load("{title["name"]}")', f'Predictor.load("{name}")')
