"""A batch as one HTML file that needs nothing else; all text of the corpus is escaped."""

import html
from collections.abc import Iterator

from unmask import pages
from unmask.study.batches import KEPT, MASKED, RANDOM, SPECIAL, BatchStats, BlockView, GlobalBatch
from unmask.study.show import DOCUMENT, SENTENCE, borders, pieces, ranges, readable, title
from unmask.tokenizer.load import Tokenizer

_CLASSES = {MASKED: "masked", RANDOM: "random", KEPT: "kept", SPECIAL: "special"}
_RULER_TOKENS = 16
_STYLE = """
.odd td { background: #fde2e1; font-weight: 600 }
.block { background: #fafafa; border: 1px solid #ddd; padding: .6rem .9rem; line-height: 2.6; font-size: 1rem }
.word { border-bottom: 2px solid #b8bec6 } .word > span + span { border-left: 1px dotted #6b7280; margin-left: 1px }
.masked, .random, .kept { color: #fff; border-radius: 3px; padding: 0 .15rem }
.masked { background: #1d4ed8 } .random { background: #b91c1c } .kept { background: #15803d }
.special { color: #6b7280; font-family: ui-monospace, monospace; font-size: .8rem }
.second { background: #fff4d6 } rt { color: #374151; font-size: .65rem } .at { color: #9aa1ab; font-size: .6rem }
.sentence { color: #9aa1ab; padding: 0 .3rem } .document { border-top: 2px dashed #b45309; margin: .4rem 0 }
.document span { color: #b45309; font-size: .75rem; float: right; line-height: 1.2 }
.legend > * { margin-right: 1.2rem }
"""


def page(batch: GlobalBatch, *, texts: int) -> str:
    """Draw the figures of a global batch and its first `texts` blocks.

    Returns:
        A whole HTML document. Over a piece stands what the text says where the model sees something else; the pointer
        shows number, position and id.
    """
    heading = f"Batch of step {batch.step:,}: {', '.join(batch.names)}"
    blocks = "".join(
        f"<h3>{html.escape(title(view, batch.names))}</h3>"
        f"<div class=block>{''.join(_block(view, batch.tokenizer))}</div>"
        for view in batch.views[:texts]
    )
    parts = [f"<h1>{html.escape(heading)}</h1>{_figures(batch.stats)}", "<h2>Blocks</h2>", _legend(batch.tokenizer)]
    return pages.page(heading, [*parts, blocks], style=_STYLE)


def _figures(found: BatchStats) -> str:
    rows = "".join(
        f"<tr{' class=odd' if one.is_odd else ''}><td>{one.name}<td>{one.count:,}<td>{one.real:.4f}<td>{one.wanted:.4f}"
        f"<td>{one.p_value:.2g}</tr>"
        for one in found.shares
    )
    others = {
        "blocks": f"{found.num_blocks:,}",
        "micro-batches": f"{found.num_micro_batches:,}",
        "tokens": f"{found.num_tokens:,}",
        "blocks of several documents": f"{found.crossing:.1%}",
        f"filled part of {found.block_length} tokens": f"{found.fill:.1%}",
        "filler in what is computed": f"{found.filler:.1%}",
        "split words that are predicted": f"{found.split_words:,}",
        "of them only in part": f"{found.cut_words:.1%}",
    }
    odd = any(one.is_odd for one in found.shares)
    alarm = "<p><b>A red share is not what the settings ask for: chance alone hardly makes it.</b>" if odd else ""
    counted = ranges(found.lengths, bins=12)
    lengths = pages.bars([(f"{low} to {high}", count, f"{count:,}") for low, high, count in counted])
    return (
        "<h2>Proportions</h2><table><tr><th>tokens<th>count<th>share<th>wanted<th>p</tr>"
        f"{rows}</table>{alarm}<h2>Packing</h2>{pages.table(others.items())}<h2>Tokens of a block</h2>{lengths}"
    )


def _legend(tokenizer: Tokenizer) -> str:
    parts = [
        f"<ruby class=masked>{html.escape(tokenizer.mask_token)}<rt>original</rt></ruby>",
        "<ruby class=random>random piece<rt>original</rt></ruby>",
        "<span class=kept>kept, and predicted</span>",
        "<span class=special>special</span>",
        "<span><span class=word><span>one w</span><span>ord</span></span></span>",
        f"<span><span class=sentence>{SENTENCE}</span>sentence</span>",
        "<span class=second>second text of a pair</span>",
    ]
    return f"<p class=legend>{''.join(parts)}</p>"


def _block(view: BlockView, tokenizer: Tokenizer) -> Iterator[str]:
    """Pieces in order; those of one word stand in one span."""
    marks = borders(view)
    is_open = False
    for at, (space, piece) in enumerate(pieces(view, tokenizer)):
        goes_on = at > 0 and view.words[at] >= 0 and view.words[at] == view.words[at - 1]
        if is_open and not goes_on:
            yield "</span>"
        yield space
        if marks[at] == DOCUMENT:
            yield "<div class=document><span>next document</span></div>"
        elif marks[at]:
            yield f"<span class=sentence>{marks[at]}</span>"
        if at % _RULER_TOKENS == 0:
            yield f"<sub class=at>{at}</sub>"
        if not goes_on:
            is_open = view.words[at] >= 0 and at + 1 < len(view) and view.words[at + 1] == view.words[at]
            yield "<span class=word>" if is_open else ""
        yield _piece(view, at, piece, tokenizer)
    if is_open:
        yield "</span>"


def _piece(view: BlockView, at: int, piece: str, tokenizer: Tokenizer) -> str:
    fate, seen = int(view.fates[at]), int(view.seen[at])
    classes = [_CLASSES[fate]] if fate in _CLASSES else []
    if view.token_types is not None and view.token_types[at] and not classes:
        classes.append("second")
    hint = f"token {at}, position {view.positions[at]}, id {view.ids[at]}"
    hint += f", seen as {seen}" if seen != view.ids[at] else ""
    opening = f'span title="{hint}"' + (f' class="{" ".join(classes)}"' if classes else "")
    if fate not in (MASKED, RANDOM):
        return f"<{opening}>{html.escape(piece)}</span>"
    shown = tokenizer.mask_token if fate == MASKED else readable(tokenizer, seen)[1]
    return f"<{opening}><ruby>{html.escape(shown)}<rt>{html.escape(piece)}</rt></ruby></span>"
