"""Labels of the files of a data set, and those that not all of them have."""

import difflib
from collections import Counter
from collections.abc import Sequence

from unmask.study.row_parts import Part, place_of

_FEW = 20


def count_labels(parts: Sequence[Part]) -> tuple[dict[str, dict[str, int]], list[str], list[str]]:
    """Count the labels of each part.

    Returns:
        Rows with each label by the name of the part, the most frequent first; lines about labels that the first part
        does not have, with the nearest one that it has; and lines about labels that only the first part has.
    """
    counts = {part.name: Counter(label for labels in part.labels for label in labels) for part in parts}
    total = Counter(label for one in counts.values() for label in one.elements())
    table = {label: {name: one[label] for name, one in counts.items()} for label, _ in total.most_common()}
    first, unknown, unseen = parts[0], [], []
    for part in parts[1:]:
        have, want = counts[part.name], counts[first.name]
        if not have:
            continue
        unknown += [_unknown(part, label, have[label], first.name, list(want)) for label in have if label not in want]
        missing = [f"'{label}' ({count:,})" for label, count in want.most_common() if label not in have]
        if missing:
            more = f" and {len(missing) - 6} more" * (len(missing) > 6)
            unseen.append(f"in {first.name}, not in {part.name}: {', '.join(missing[:6])}{more}")
    rest = len(unknown) - _FEW
    return table, unknown[:_FEW] + [f"{rest} more such labels"] * (rest > 0), unseen


def _unknown(part: Part, label: str, count: int, first: str, known: list[str]) -> str:
    at = next(at for at, labels in enumerate(part.labels) if label in labels)
    same = {name.strip().casefold(): name for name in known}
    near = (
        [same[label.strip().casefold()]]
        if label.strip().casefold() in same
        else difflib.get_close_matches(label, known, 1)
    )
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"the label '{label}' is in {part.name}, not in {first} ({count:,} rows, first {place_of(part, at)}){hint}"
