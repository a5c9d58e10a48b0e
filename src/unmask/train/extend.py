"""A published model for a new language or field: more pieces in its tokenizer, a row for each in its tables."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.checkpoint import load_model
from unmask.data.files import expand, read_documents, unpacked_bytes
from unmask.errors import UsageError
from unmask.model.extend import extend_rows
from unmask.tokenizer.extend import DEFAULT_MAX_BYTES, ExtensionReport, extend, old_ids
from unmask.train.rewrite import rewrite


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
        meta=old.meta | {"extension": _note(report, paths)},
    )
    rewrite(output, new, source=model, section=_section(report))
    return report


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


def _section(report: ExtensionReport) -> str:
    lines = [f"* {line}" for line in report.to_lines()]
    told = (
        "Pieces for a new language or field were added, each with the mean of the rows of its former pieces. "
        "They were not trained yet: go on with pre-training before you use them."
    )
    return "\n".join(["## Added pieces", "", told, "", *lines])
