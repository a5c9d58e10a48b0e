"""From files of text to an encoder: a tokenizer, a corpus and a pre-training run, in one folder."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from unmask.data import corpus
from unmask.data.files import expand, read_documents, unpacked_bytes
from unmask.errors import UsageError
from unmask.storage import staged
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import DEFAULT_MAX_BYTES, train_with_report
from unmask.train.pretrain import PretrainResult, pretrain
from unmask.train.settings import BuildSettings

log = logging.getLogger("unmask")

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
        settings: of all three.
        processes: workers that build the corpus; by default one for each core.
        on_stage: gets the name of each stage when it begins.

    Raises:
        DataError: a file is not readable text.
        UsageError: the folder holds another tokenizer, or a run with other settings.
        ArtefactError: a folder of an earlier call is damaged, or was made from other files.
    """
    on_stage(STAGES[0])
    tokenizer = output / "tokenizer"
    if not tokenizer.exists():
        _train_tokenizer(files, tokenizer, settings.vocab_size)
    elif Tokenizer.load(tokenizer).vocab_size > settings.vocab_size:
        raise UsageError(
            "other-settings",
            "the tokenizer that an earlier call made here is larger",
            place=tokenizer,
            value=settings.vocab_size,
            remedy="name another --output",
        )
    on_stage(STAGES[1])
    built = corpus.build(files, tokenizer_folder=tokenizer, output=output / "corpus", processes=processes)
    on_stage(STAGES[2])
    return pretrain([built.folder], output / "pretrain", settings.pretrain)


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
