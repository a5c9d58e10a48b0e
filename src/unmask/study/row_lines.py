"""A look at labelled files as lines for a terminal, about one screen."""

from collections.abc import Iterator

import numpy as np

from unmask.data.classes import quoted
from unmask.study.rows import DataView
from unmask.study.show import histogram

_LABELS = 10
_WIDTH = 11


def to_lines(view: DataView) -> Iterator[str]:
    """The figures, what is odd, and at the end what fails."""
    for name, (path, rows) in view.files.items():
        yield f"{name:<8} {rows:>9,} rows  {path}"
    yield f"task     {view.task}"
    yield from (f"         {line}" for note in view.notes for line in note.splitlines())
    yield from _labels(view)
    yield from _lengths(view)
    if view.overlaps:
        yield "copies"
    for overlap in view.overlaps:
        yield f"  {overlap.told()}"
        yield from (f"    {example}" for example in overlap.examples)
    if view.troubles:
        yield "rows to look at"
    for trouble in view.troubles:
        yield f"  {trouble.count:,}: {trouble.name}"
        yield from (f"    {line}" for example in trouble.examples for line in example.splitlines())
    yield from (f"FAIL {failure}" for failure in view.failures)
    if not view.failures:
        yield "nothing that has to be mended"


def _labels(view: DataView) -> Iterator[str]:
    if not view.labels:
        return
    totals = {name: sum(counts[name] for counts in view.labels.values()) for name in view.files}
    names = [name for name, total in totals.items() if total]
    width = min(40, max(len(quoted(label)) for label in list(view.labels)[:_LABELS]) + 2)
    yield f"{'labels':<{width}}" + "".join(f"{name:>{_WIDTH + 8}}" for name in names)
    for label, counts in list(view.labels.items())[:_LABELS]:
        cells = (f"{counts[name]:>{_WIDTH},} {counts[name] / totals[name]:>7.1%}" for name in names)
        yield f"  {quoted(label)[: width - 2]:<{width - 2}}" + "".join(cells)
    rest = list(view.labels.values())[_LABELS:]
    if rest:
        fewest = min(counts[names[0]] for counts in rest)
        yield f"  and {len(rest)} more, the rarest with {fewest:,} in {names[0]}"
    yield from (f"  {line}" for line in view.unseen)


def _lengths(view: DataView) -> Iterator[str]:
    lengths = view.lengths
    middle, most = np.median(lengths), np.quantile(lengths, 0.99)
    yield f"{view.unit} of a row: median {middle:,.0f}, longest {lengths.max():,}; 99 % have up to {most:,.0f}:"
    yield from histogram(lengths[lengths <= most], bins=6)
    if view.max_length is not None:
        yield (
            f"  {view.num_long:,} rows ({view.num_long / len(lengths):.1%}) are longer than the input of "
            f"{view.max_length:,}: {view.long_share:.1%} of all tokens stand behind it, in further windows or cut off"
        )
