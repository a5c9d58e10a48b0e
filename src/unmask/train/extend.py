"""A published model for a new language or field: more pieces in its tokenizer, a row for each in its tables."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.certify import without_precisions
from unmask.checkpoint import Model, load_model, save_model
from unmask.data.files import expand, read_documents, unpacked_bytes
from unmask.errors import UsageError
from unmask.golden import make_golden
from unmask.model.extend import extend_rows
from unmask.predict import build_task
from unmask.tokenizer.extend import DEFAULT_MAX_BYTES, ExtensionReport, extend, old_ids

log = logging.getLogger("unmask")


def extend_model(
    files: Sequence[Path | str],
    *,
    model: Path | str,
    output: Path | str,
    num_pieces: int,
    min_frequency: int = 2,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> ExtensionReport:
    """Learn pieces from files of text and write a model folder that has them; go on with its pre-training then.

    A new row is the mean of the rows of the pieces that the new piece was cut into before. Old ids, old rows and the
    logits of old pieces are those of the model that was given.

    Args:
        files: text of the new language or field, as for `corpus.build`.
        model: model folder, ours or a published one, with a byte-level BPE or WordPiece tokenizer.
        output: the new model folder; it must not exist.
        num_pieces: how many pieces to add at most.
        min_frequency: pairs (WordPiece: words) seen less often give no piece.
        max_bytes: learn from a sample of at most so many bytes of text.

    Raises:
        UsageError: `output` exists, or the tokenizer is of the Unigram kind.
        DataError: a file cannot be read as text, or has nothing to add.
        ArtefactError: `model` is no model folder, or a corrupt one.
    """
    model, output = Path(model), Path(output)
    if output.exists():
        raise UsageError("exists", "the output folder exists already", place=output, remedy="choose another name")
    paths = expand([Path(file) for file in files])
    old = load_model(model)
    tokenizer, report = extend(
        old.tokenizer,
        (document.text for document in read_documents(paths)),
        num_pieces=num_pieces,
        min_frequency=min_frequency,
        max_bytes=max_bytes,
        total_bytes=unpacked_bytes(paths),
    )
    state_dict = extend_rows(old.state_dict, old_ids(old.tokenizer, tokenizer), first_id=report.first_id)
    rows = len(state_dict["encoder.embeddings.word.weight"])
    new = replace(
        old,
        config=old.config.model_copy(update={"vocab_size": rows}),
        state_dict=state_dict,
        tokenizer=tokenizer,
        meta={name: value for name, value in old.meta.items() if name != "engine"}  # certified for the old pieces
        | {"extension": _note(report, paths)},
    )
    if old.unused:
        log.info("left out, for they belong to no part of this network: %s", ", ".join(old.unused[:5]))
    _save(output, new, _card(model, report))
    return report


def _save(output: Path, model: Model, card: str) -> None:
    is_for_a_task = model.head is not None or "task" in model.meta
    task = build_task(model, place=output) if is_for_a_task else None
    save_model(
        output,
        config=model.config,
        state_dict=model.state_dict,
        tokenizer=model.tokenizer,
        head=model.head,
        labels=model.labels,
        meta=model.meta,
        card=card,
        golden=None if task is None else make_golden(task),
        problem_type=model.problem_type,
        files=None if task is None else task.files,
    )


def _note(report: ExtensionReport, paths: Sequence[Path]) -> dict[str, Any]:
    return {
        "first_id": report.first_id,
        "pieces": len(report.pieces),
        "files": [path.name for path in paths],
        "bytes_used": report.bytes_used,
        "fertility_before": report.before.fertility if report.before else None,
        "fertility_after": report.after.fertility if report.after else None,
        "saved_share": report.saved_share,
    }


def _card(model: Path, report: ExtensionReport) -> str:
    """The old card with a section about the new pieces."""
    readme = model / "README.md"
    old = readme.read_text("utf-8", errors="replace").rstrip() if readme.is_file() else f"# {model.resolve().name}"
    lines = [f"* {line}" for line in report.to_lines()]
    told = (
        "Pieces for a new language or field were added, each with the mean of the rows of its former pieces. "
        "They were not trained yet: go on with pre-training before you use them."
    )
    return "\n".join([without_precisions(old), "", "## Added pieces", "", told, "", *lines, ""])
