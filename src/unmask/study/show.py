"""A batch in the terminal: colours on one, marks elsewhere."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from unmask.study.batches import KEPT, MASKED, RANDOM, SPECIAL, BatchStats, BlockView, GlobalBatch
from unmask.tokenizer.load import Tokenizer

SENTENCE, DOCUMENT, BAR = "\u00a6", "\u00b6", "\u2588"
LEGEND = f"{SENTENCE} sentence  {DOCUMENT} document"
_MARKS = {MASKED: "[MASK:{0}]", RANDOM: "{{{1}:{0}}}", KEPT: "={0}="}
_COLOURED = {MASKED: "{0}", RANDOM: "{1}/{0}", KEPT: "{0}"}
_STYLES = {MASKED: "bold white on blue", RANDOM: "bold white on red", KEPT: "bold white on green", SPECIAL: "dim"}


def show(batch: GlobalBatch, *, texts: int, console: Console | None = None) -> None:
    """Write figures and the first `texts` blocks to a console, by default the standard output."""
    console = console or Console(highlight=False, markup=False, soft_wrap=True)
    is_coloured = console.is_terminal and not console.no_color
    for line in stats_lines(batch.stats):
        console.print(line)
    console.print(legend(is_coloured=is_coloured))
    for view in batch.views[:texts]:
        console.print(f"\n{title(view, batch.names)}", style="bold")
        console.print(block_text(view, batch.tokenizer, is_coloured=is_coloured))


def legend(*, is_coloured: bool) -> Text:
    """What the marks or colours of `block_text` mean."""
    forms = _COLOURED if is_coloured else _MARKS
    parts: list[str | tuple[str, str]] = []
    for name, fate in (("masked", MASKED), ("random", RANDOM), ("kept", KEPT)):
        shown = forms[fate].format("original", "seen")
        parts += [(shown, _STYLES[fate]) if is_coloured else shown, f" {name}  "]
    return Text.assemble(*parts, LEGEND)


def block_text(view: BlockView, tokenizer: Tokenizer, *, is_coloured: bool) -> Text:
    """The text of a block with what became of each piece, and where sentences and documents end."""
    forms = _COLOURED if is_coloured else _MARKS
    text = Text()
    for at, ((space, piece), border) in enumerate(zip(pieces(view, tokenizer), borders(view), strict=True)):
        text.append(space)
        if border:
            text.append(f"{border} ", "dim")
        fate = int(view.fates[at])
        seen = readable(tokenizer, int(view.seen[at]))[1]
        shown = forms[fate].format(piece, seen) if fate in forms else piece
        text.append(shown, _STYLES.get(fate, "") if is_coloured else "")
    return text


def title(view: BlockView, names: Sequence[str]) -> str:
    """One line about a block; `names` are those of the corpora."""
    parts = [
        f"block {view.number:,} of {names[view.corpus]}, epoch {view.epoch}",
        f"{len(view)} tokens",
        f"{int((view.fates >= MASKED).sum())} predicted",
        f"{view.num_documents} documents" if view.num_documents > 1 else "1 document",
        f"positions {view.positions.min()} to {view.positions.max()}",
    ]
    return ", ".join(parts if view.pair_label is None else [*parts, f"pair label {view.pair_label}"])


def stats_lines(found: BatchStats) -> Iterator[str]:
    """The figures of a batch, one a line; a share that chance does not explain is marked."""
    yield (
        f"blocks of at most {found.block_length} tokens: {found.num_blocks}, micro-batches: {found.num_micro_batches}, "
        f"tokens: {found.num_tokens:,}"
    )
    yield f"{'':<10} {'count':>8} {'share':>8} {'wanted':>8} {'p':>9}"
    for share in found.shares:
        odd = "  <- ALARM: not what the settings ask for" if share.is_odd else ""
        name, p_value = share.name, share.p_value
        yield f"{name:<10} {share.count:>8,} {share.real:>8.4f} {share.wanted:>8.4f} {p_value:>9.2g}{odd}"
    yield f"blocks of several documents      {found.crossing:.1%}"
    yield f"filled part of the block length  {found.fill:.1%}; the other {1 - found.fill:.1%} is not computed"
    yield f"filler in what is computed       {found.filler:.1%}"
    yield f"split words that are predicted   {found.split_words:,}, {found.cut_words:.1%} of them only in part"
    yield "tokens of a block"
    yield from histogram(found.lengths)


def histogram(values: np.ndarray, *, bins: int = 10, width: int = 40) -> Iterator[str]:
    """Lines with a bar for each of some equal ranges of whole numbers.

    Args:
        values: integers, (N,), N > 0.
        bins: ranges, at most.
        width: characters of the longest bar.
    """
    counted = ranges(values, bins=bins)
    highest = max(count for _, _, count in counted)
    for low, high, count in counted:
        yield f"  {low:>9,} to {high:>9,} {count:>11,} {BAR * -(-count * width // highest)}".rstrip()


def ranges(values: np.ndarray, *, bins: int) -> list[tuple[int, int, int]]:
    """First and last number of each of at most `bins` equal ranges of whole numbers, and how many values it has."""
    low, high = int(values.min()), int(values.max())
    size = -(-(high - low + 1) // bins)
    counts = np.bincount((values - low).astype(np.int64) // size).tolist()
    return [(low + at * size, min(high, low + (at + 1) * size - 1), count) for at, count in enumerate(counts)]


def pieces(view: BlockView, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Space before each original piece, and its readable text."""
    for at, piece in enumerate(view.ids.tolist()):
        if view.fates[at] == SPECIAL:
            yield " " if at else "", tokenizer.piece(piece)
            continue
        space, text = readable(tokenizer, piece)
        is_first = view.fates[at - 1] == SPECIAL or view.sentences[at - 1] != view.sentences[at]
        yield " " if is_first else space, text


def readable(tokenizer: Tokenizer, piece: int) -> tuple[str, str]:
    """Space before a piece, and its text without anything that a terminal would obey."""
    text = tokenizer.piece(piece)
    if tokenizer.family == "bert":
        is_glued = text.startswith("##") or "\u2e80" <= text[0] <= "\u9fff"
        space, bare = "" if is_glued else " ", text.removeprefix("##")
    else:
        bare = text.lstrip(" ") or text
        space = text[: len(text) - len(bare)]
    return space, "".join(one if one.isprintable() else ascii(one)[1:-1] for one in bare)


def borders(view: BlockView) -> list[str]:
    """For each token the mark of the sentence or document that begins with it; empty inside one and at the start."""
    marks = [""] * len(view)
    ordinary = np.flatnonzero(view.fates != SPECIAL).tolist()
    for before, at in itertools.pairwise(ordinary):
        if view.documents[before] != view.documents[at]:
            marks[at] = DOCUMENT
        elif view.sentences[before] != view.sentences[at]:
            marks[at] = SENTENCE
    return marks
