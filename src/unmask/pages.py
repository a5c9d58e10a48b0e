"""Pages that are one file and need nothing else: text is escaped, curves are inline SVG, no script runs."""

import html
import itertools
import math
from collections.abc import Iterable, Sequence

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } h3 { font-size: .9rem; font-weight: 600 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } .scroll { overflow-x: auto }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top }
th:first-child, td:first-child, .left td, .left th { text-align: left }
svg, pre { background: #fafafa; border: 1px solid #ddd } svg { width: 100%; height: auto }
pre { padding: 1rem; overflow-x: auto } figure { margin: 0 } figcaption { margin-bottom: .3rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.2rem }
.bar { background: #94a3b8; height: .8rem } .right { background: #dcfce7 } .wrong { background: #fee2e2 }
mark { border-radius: 3px; padding: 0 .1rem; color: inherit } mark sub { font-size: .65rem; margin-left: .15rem }
mark.both { background: #bbf7d0 } mark.gold { background: #fde68a } mark.answer { background: #fecaca }
"""

_DOT = 'fill="#2457a8"'
_ODD_DOT = 'fill="#fff" stroke="#dc2626" stroke-width=2'

Cell = str | float


class Markup(str):
    """A string that is HTML already and is not escaped again."""

    __slots__ = ()


def page(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """A whole document.

    Args:
        title: of the window; it is escaped.
        parts: HTML of the body, in order.
        style: CSS beside the common one.
    """
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    return f"{head}<style>{STYLE}{style}</style>" + "\n".join(parts) + "</html>\n"


def table(rows: Iterable[Sequence[Cell]], head: Sequence[str] = (), *, is_text: bool = False) -> Markup:
    """A table; the first column is left-aligned, with `is_text` all are. Cells are escaped unless they are `Markup`."""
    top = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return Markup(f"<div class=scroll><table{' class=left' if is_text else ''}>{top}{body}</table></div>")


def escaped(cell: Cell) -> str:
    """The HTML of a cell: `Markup` as it is, other text escaped, numbers short."""
    if isinstance(cell, Markup):
        return cell
    return html.escape(cell if isinstance(cell, str) else number(cell))


def number(value: float) -> str:
    """A number as a reader wants it: four digits, no exponent for large ones."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 10_000 else f"{value:.4g}"


def bars(rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Horizontal bars: a label, a length relative to the longest, and what is written beside."""
    highest = max((length for _, length, _ in rows), default=0) or 1
    return table(
        (label, Markup(f"<div class=bar style=width:{length / highest * 20:.2f}rem></div>"), told)
        for label, length, told in rows
    )


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Counts by label (rows) and answer (columns); the darker a cell, the greater its share of the row."""
    rows = []
    for at, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = sum(row) or 1
        cells = [_shaded(count, count / total, is_right=at == place) for place, count in enumerate(row)]
        rows.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *names))
    return Markup(f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>")


def _shaded(count: int, share: float, *, is_right: bool) -> str:
    colour = "22,163,74" if is_right else "220,38,38"
    return f'<td style="background:rgba({colour},{0.75 * share:.2f})">{count}</td>'


def curve(
    points: Sequence[tuple[float, float]],
    *,
    name: str = "step",
    limits: tuple[float, float] | None = None,
    is_diagonal: bool = False,
) -> Markup:
    """A line through points.

    Args:
        points: x and y; those that are not finite are left out.
        name: of the x axis.
        limits: of the y axis; by default the least and the greatest y.
        is_diagonal: draw the line y = x too.
    """
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 2:
        return Markup("<p>too few finite values to draw</p>")
    width, height, margin = 480, 200, 72
    xs = [x for x, _ in points]
    low, high = limits or (min(y for _, y in points), max(y for _, y in points))
    span, reach = (high - low) or 1.0, (max(xs) - min(xs)) or 1.0

    def placed(x: float, y: float) -> str:
        across = margin + (x - min(xs)) / reach * (width - margin - 12)
        return f"{across:.1f},{12 + (high - y) / span * (height - 36):.1f}"

    line = " ".join(placed(x, y) for x, y in points)
    texts = [
        f"<text x=4 y={y} font-size=12>{number(value)}</text>" for y, value in ((18, high), (height - 24, low))
    ] + [
        f"<text x={margin} y={height - 6} font-size=12>{html.escape(name)} {number(min(xs))}</text>",
        f"<text x={width - 12} y={height - 6} font-size=12 text-anchor=end>{number(max(xs))}</text>",
    ]
    ends = f"{placed(min(xs), min(xs))} {placed(max(xs), max(xs))}"
    diagonal = f'<polyline points="{ends}" fill=none stroke="#9aa1ab" stroke-dasharray="4" />' if is_diagonal else ""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role=img>{diagonal}'
        f'<polyline points="{line}" fill=none stroke="#2457a8" stroke-width=1.5 />{"".join(texts)}</svg>'
    )


def dots(rows: Sequence[tuple[str, float, bool]], *, middle: float, limits: tuple[float, float]) -> Markup:
    """Values on one axis, one line each, so that their spread is seen.

    Args:
        rows: label, finite value, and whether it is odd: then a red ring stands for it.
        middle: where a line is drawn through all.
        limits: of a band behind them.
    """
    values = [value for _, value, _ in rows] + [middle, *limits]
    low, reach = min(values), (max(values) - min(values)) or 1.0
    width, margin, step = 640, 110, 22
    height = step * len(rows) + 34

    def across(value: float) -> float:
        return margin + (value - low) / reach * (width - margin - 40)

    first, last = across(limits[0]), across(limits[1])
    band = f'<rect x={first:.1f} y=6 width={max(last - first, 1):.1f} height={height - 34} fill="#e2e8f0" />'
    line = f'<path d="M{across(middle):.1f} 6V{height - 28}" stroke="#2457a8" />'
    marks = [
        f"<text x=8 y={step * at + 24} font-size=12>{html.escape(label)}</text>"
        f"<circle cx={across(value):.1f} cy={step * at + 20} r=5 {_ODD_DOT if is_odd else _DOT} />"
        for at, (label, value, is_odd) in enumerate(rows)
    ]
    ends = [
        f"<text x={across(value):.1f} y={height - 8} font-size=12 text-anchor=middle>{number(value)}</text>"
        for value in dict.fromkeys((min(values), max(values)))
    ]
    return Markup(f'<svg viewBox="0 0 {width} {height}" role=img>{"".join([band, line, *marks, *ends])}</svg>')


def marked(text: str, marks: Sequence[tuple[int, int, str, str]]) -> Markup:
    """A text with stretches in colour.

    Args:
        text: plain; it is escaped.
        marks: first character, character behind the last, label, and kind: `gold` (missed), `answer` (wrong) or
            `both` (right). They may overlap: each stretch between two borders is drawn in the colours of those that
            cover it, the label behind where it ends.
    """
    borders = sorted({0, len(text), *(edge for start, end, _, _ in marks for edge in (start, end))})
    parts = []
    for start, end in itertools.pairwise(borders):
        over = [one for one in marks if one[0] <= start and one[1] >= end]
        piece = html.escape(text[start:end])
        if not over:
            parts.append(piece)
            continue
        ended = "".join(f"<sub>{html.escape(label)}</sub>" for _, last, label, _ in over if last == end)
        kinds = {kind for _, _, _, kind in over}
        kind = "both" if "both" in kinds or len(kinds) > 1 else kinds.pop()
        parts.append(f"<mark class={kind}>{piece}{ended}</mark>")
    return Markup("".join(parts))
