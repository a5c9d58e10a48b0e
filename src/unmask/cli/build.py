"""Commands that turn files of text into a tokenizer and a corpus."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from unmask.cli import ModelFolder, heavy, say
from unmask.errors import UsageError
from unmask.storage import staged

log = logging.getLogger("unmask")


def tokenizer_train(
    *files: Path,
    output: Path,
    vocab_size: int,
    min_frequency: int = 2,
    max_bytes: int = 1 << 30,
) -> None:
    """Train a byte-level BPE tokenizer on files of text.

    Files are plain text (a blank line ends a document) or JSONL with the key `text`, compressed or not; of a folder
    all files are read. Han characters are kept apart, so that Chinese is not glued to whole clauses.

    Args:
        files: Files or folders of text.
        output: Tokenizer folder; it must not exist.
        vocab_size: Number of ids, special tokens and 256 bytes included.
        min_frequency: Pairs that occur less often are not merged.
        max_bytes: Most bytes of text to learn from; of more, an evenly spaced sample is taken, and said.
    """
    read, paths = heavy("unmask.data.files:read_documents"), heavy("unmask.data.files:expand")(files)
    with staged(output) as staging:
        tokenizer, report = heavy("unmask.tokenizer.train:train_with_report")(
            (document.text for document in read(paths)),
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            max_bytes=max_bytes,
            total_bytes=heavy("unmask.data.files:unpacked_bytes")(paths),
        )
        tokenizer.save(staging)
    for line in report.to_lines():
        log.info(line)
    say(f"tokenizer: {output}")


def tokenizer_report(*files: Path, tokenizer: ModelFolder, json: bool = False) -> None:
    """Measure how well a tokenizer fits files of text.

    Args:
        files: Files or folders of text.
        tokenizer: Tokenizer or model folder.
        json: Write one JSON object.
    """
    texts = (document.text for document in heavy("unmask.data.files:read_documents")(files))
    found = heavy("unmask.tokenizer.report:report")(heavy("unmask.tokenizer.load:Tokenizer").load(tokenizer), texts)
    if json:
        shares = ("fertility", "tokens_per_character", "bytes_per_token", "unknown_share", "coverage")
        say(asdict(found) | {name: getattr(found, name) for name in shares})
        return
    for line in found.to_lines():
        say(line)


def tokenizer_extend(
    *files: Path,
    model: ModelFolder,
    output: Path,
    add: int,
    min_frequency: int = 2,
    max_bytes: int = 1 << 28,
) -> None:
    """Add pieces of a new language or field to a model's tokenizer, and their rows to its tables.

    Ids, pieces and weights that are there stay as they are. A new piece begins with the mean of the rows of the pieces
    that it was cut into before; pre-train the new folder on your text then. Unigram tokenizers (XLM-R) are refused.

    Args:
        files: Files or folders of text of the language or field.
        model: Model folder, ours or a published one.
        output: New model folder; it must not exist.
        add: Most pieces to add; each costs one row.
        min_frequency: Pairs of pieces (in BERT form: words) that occur less often give no piece.
        max_bytes: Most bytes of text to learn from; of more, an evenly spaced sample is taken, and said.
    """
    report = heavy("unmask.train.extend:extend_model")(
        files, model=model, output=output, num_pieces=add, min_frequency=min_frequency, max_bytes=max_bytes
    )
    for line in report.to_lines():
        log.info(line)
    say(f"model: {output}")


def corpus_build(
    *files: Path,
    tokenizer: ModelFolder,
    output: Path,
    words: Literal["pieces", "rjieba"] = "pieces",
    processes: int | None = None,
    ray: str | None = None,
) -> None:
    """Turn files of text into a corpus folder to pre-train on.

    A build that was interrupted goes on with the same command.

    Args:
        files: Files or folders of text: plain (a blank line ends a document) or JSONL with `text`, compressed or not.
        tokenizer: Tokenizer folder.
        output: Corpus folder.
        words: What whole-word masking takes for words: the tokenizer's pre-tokens, or in runs of Han characters the
            Chinese words of rjieba (`pip install 'unmask[zh]'`).
        processes: Worker processes; by default one for each core.
        ray: Encode on the hosts of a ray cluster (`pip install 'unmask[ray]'`): its address, `auto` for the one that
            this host is part of, or `local` for one on this machine alone. The corpus is the same to the byte.
    """
    if ray and processes:
        raise UsageError(
            "two-kinds-of-workers", "the work goes to processes here or to a cluster", remedy="leave out --processes"
        )
    start = last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= 5 and done:
            last = now
            rate = done / (now - start)
            log.info(
                "%.0f of %.0f MB  %.1f MB/s  %.0f s to go", done / 1e6, total / 1e6, rate / 1e6, (total - done) / rate
            )

    found = heavy("unmask.data.corpus:build")(
        files,
        tokenizer_folder=tokenizer,
        output=output,
        processes=processes,
        workers=heavy("unmask.data.ray_pool:ray_tasks")(ray) if ray else None,
        segmenter=heavy("unmask.data.chinese:Rjieba")() if words == "rjieba" else None,
        on_progress=show,
    )
    if not found.is_new:
        log.info("this corpus was built before, from the same files")
    documents, sentences, tokens = (found.meta.total(name) for name in ("num_documents", "num_sentences", "num_tokens"))
    say(
        f"corpus: {found.folder}  {documents:,} documents, {sentences:,} sentences, {tokens:,} tokens "
        f"in {found.seconds:.1f} s"
    )


def corpus_report(folder: Path, *, block_length: int = 128, json: bool = False) -> None:
    """Describe a corpus folder.

    Args:
        folder: Corpus folder.
        block_length: Tokens of a block, to count blocks and the share of them that is filled.
        json: Write one JSON object.
    """
    corpus = heavy("unmask.data.corpus:Corpus").open(folder)
    tokenizer = heavy("unmask.tokenizer.load:Tokenizer").load(corpus.tokenizer_folder)
    blocks = heavy("unmask.data.packing:SentenceBlocks")(
        corpus, max_length=block_length, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id
    )
    counts = ("num_documents", "num_empty_documents", "num_sentences", "num_tokens", "num_bytes")
    found = {name.removeprefix("num_"): corpus.meta.total(name) for name in counts}
    found |= {
        "bytes_a_token": found["bytes"] / found["tokens"],
        "tokens_a_sentence": found["tokens"] / found["sentences"],
        "blocks": len(blocks),
        "block_length": block_length,
        "filled_share_of_blocks": blocks.mean_length / block_length,
        "sentences_cut": blocks.num_cut_sentences,
        "vocabulary": tokenizer.vocab_size,
        "shards": len(corpus.shards),
        "words": corpus.meta.words,
        "fingerprint": corpus.fingerprint,
    }
    if json:
        say(found)
        return
    for name, value in found.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
        say(f"{name.replace('_', ' '):<24} {shown}")
