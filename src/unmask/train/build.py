"""From files of text to an encoder: a tokenizer, a corpus and a pre-training run, in one folder."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unmask.data import corpus
from unmask.data.files import expand, read_documents, unpacked_bytes
from unmask.errors import UsageError
from unmask.runtime import world_size
from unmask.storage import digest, locked, read_json, staged, write_text
from unmask.tokenizer.train import DEFAULT_MAX_BYTES, train_with_report
from unmask.train.card import LEFT_OUT, is_about
from unmask.train.pretrain import PretrainResult, pretrain
from unmask.train.settings import BuildSettings

log = logging.getLogger("unmask")

NOTE = "build.json"
STAGES = ("a tokenizer", "a corpus: the text as ids, with its sentences and documents", "pre-training")


def build(
    files: Sequence[Path],
    output: Path,
    settings: BuildSettings,
    *,
    processes: int | None = None,
    on_stage: Callable[[str], None] = log.info,
) -> PretrainResult:
    """Make an encoder from text; the same call again goes on where it ended.

    Args:
        files: plain text or JSONL with `text`, or folders of such files.
        output: folder for `tokenizer/`, `corpus/` and `pretrain/`, in which `model/` is the finished encoder.
        settings: of all three; all files make one corpus.
        processes: workers that build the corpus; by default one for each core.
        on_stage: gets the name of each stage when it begins.

    Raises:
        DataError: a file is not readable text.
        UsageError: the folder holds a tokenizer of other files or size, or a run with other settings.
        ArtefactError: a folder of an earlier call is damaged.
    """
    if world_size() > 1:
        raise UsageError(
            "one-process",
            "tokenizer and corpus are made by one process, not by all that torchrun has started",
            remedy="make both first, then: torchrun ... -m unmask pretrain --corpus DIR",
        )
    with locked(output):
        _refuse_other_tokenizer(output, files, settings)
        on_stage(STAGES[0])
        tokenizer = output / "tokenizer"
        if not tokenizer.exists():
            _train_tokenizer(files, tokenizer, settings.vocab_size)
        on_stage(STAGES[1])
        built = corpus.build(files, tokenizer_folder=tokenizer, output=output / "corpus", processes=processes)
        on_stage(STAGES[2])
        return pretrain([built.folder], output / "pretrain", settings.pretrain)


def without_foreign_card(recipe: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """A recipe as plain values, without its card where that tells of other files of text than these.

    Args:
        recipe: with the key `pretrain`, whose `card` may name its `sources`.
        files: as `build` takes them.
    """
    pretraining = dict(recipe.get("pretrain", {}))
    sources = pretraining.get("card", {}).get("sources", ())
    if is_about(sources, map(digest, expand(files) if sources else ())):
        return recipe
    log.info(LEFT_OUT)
    del pretraining["card"]
    return recipe | {"pretrain": pretraining}


def _refuse_other_tokenizer(output: Path, files: Sequence[Path], settings: BuildSettings) -> None:
    """Compare with the inputs of an earlier call, or note these; a training's settings are compared by itself."""
    note = output / NOTE
    asked = {"vocab_size": settings.vocab_size, "sources": sorted(map(digest, expand(files)))}
    made = read_json(note) if note.exists() and (output / "tokenizer").exists() else {}
    if made.get("vocab_size", settings.vocab_size) != settings.vocab_size:
        raise UsageError(
            "other-settings",
            f"an earlier call made a tokenizer of {made['vocab_size']} ids here",
            place=output,
            value=settings.vocab_size,
            remedy="name another --output",
        )
    if made.get("sources", asked["sources"]) != asked["sources"]:
        raise UsageError(
            "other-settings",
            "an earlier call made a tokenizer from other files here",
            place=output,
            value=", ".join(map(str, files)),
            remedy="give it the same files again, or name another --output",
        )
    write_text(note, json.dumps(asked) + "\n")


def _train_tokenizer(files: Sequence[Path], output: Path, vocab_size: int) -> None:
    paths = expand(files)
    texts = (document.text for document in read_documents(paths))
    made, report = train_with_report(
        texts, vocab_size=vocab_size, max_bytes=DEFAULT_MAX_BYTES, total_bytes=unpacked_bytes(paths)
    )
    with staged(output) as staging:
        made.save(staging)
    for line in report.to_lines():
        log.info(line)
