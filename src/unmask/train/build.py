"""From files of text to an encoder: a tokenizer, a corpus and a pre-training run, in one folder."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from unmask.data import corpus
from unmask.data.files import expand, read_documents, unpacked_bytes
from unmask.errors import UsageError
from unmask.runtime import world_size
from unmask.storage import locked, read_json, staged, write_text
from unmask.tokenizer.train import DEFAULT_MAX_BYTES, train_with_report
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
        UsageError: the folder holds another tokenizer, or a run with other settings.
        ArtefactError: a folder of an earlier call is damaged, or was made from other files.
    """
    if world_size() > 1:
        raise UsageError(
            "one-process",
            "tokenizer and corpus are made by one process, not by all that torchrun has started",
            remedy="make both first, then: torchrun ... -m unmask pretrain --corpus DIR",
        )
    with locked(output):
        _refuse_other_tokenizer(output, settings)
        on_stage(STAGES[0])
        tokenizer = output / "tokenizer"
        if not tokenizer.exists():
            _train_tokenizer(files, tokenizer, settings.vocab_size)
        on_stage(STAGES[1])
        built = corpus.build(files, tokenizer_folder=tokenizer, output=output / "corpus", processes=processes)
        on_stage(STAGES[2])
        return pretrain([built.folder], output / "pretrain", settings.pretrain)


def _refuse_other_tokenizer(output: Path, settings: BuildSettings) -> None:
    """Compare with the settings of an earlier call, or note these; files and training are compared by their stages."""
    note, asked = output / NOTE, {"vocab_size": settings.vocab_size}
    if not note.exists():
        write_text(note, json.dumps(asked) + "\n")
    elif (made := read_json(note)) != asked:
        raise UsageError(
            "other-settings",
            f"an earlier call made a tokenizer of {made['vocab_size']} ids here",
            place=output,
            value=settings.vocab_size,
            remedy="name another --output",
        )


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
