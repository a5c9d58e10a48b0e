"""Rows that are odd by themselves: unreadable, empty, broken or very long, with misfit spans, refused by the task."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from unmask.config import Settings
from unmask.data.rejects import Rejects
from unmask.data.spans import STRAY, UnitRule, drawn, faults, units
from unmask.study.row_parts import SHOWN, Part, Trouble, excerpt, place_of
from unmask.tasks.base import Task
from unmask.tasks.sound import checker, sound_rows

# UTF-8 that was read as Latin-1 or CP1252: e acute becomes A tilde and copyright, quotes become a circumflex and euro.
_MOJIBAKE = re.compile(
    "\u00c3[\u0080-\u00bf]|\u00c2[\u00a0-\u00bf]|\u00e2[\u0080\u20ac][\u0080-\u00bf\u2018-\u2122\u0152]|\ufffd"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_MARKUP = re.compile(
    r"</?(?:br|p|div|a|b|i|span|li|ul|td|tr|font|img)\b[^<>]*>|&(?:[a-z]{2,6}|#\d{2,5});", re.IGNORECASE
)

_QUOTE = "a quote that is not closed"
FAULTS = {
    "only marks": re.compile(r"\A(?=.*\S)[\W_]+\Z", re.DOTALL),
    "broken characters": _MOJIBAKE,
    "control characters": _CONTROL,
    "markup": _MARKUP,
    _QUOTE: re.compile(r'\A"[^"]*(?:"[^"]*"[^"]*)*\Z'),
}
"""Names of faults, and what a text has that has each; quotes say nothing about files that are no tables."""
_LONG_TIMES, _LONG_LEAST = 20, 200
_NO_CONSENSUS = "-"
_TOLD = ("misfit-span", "unknown-label")  # by `misfits`, and with the labels
_WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


def num_words(text: str) -> int:
    """Runs of letters and digits, and single characters of Chinese, Japanese and Korean."""
    return sum(1 for _ in _WORD.finditer(text))


def odd_rows(parts: Sequence[Part], lengths: Sequence[Sequence[int]]) -> Iterator[Trouble]:
    """Rows that cannot be read, whose text has a fault, that are very long, or that nobody agreed about."""
    errors = [error for part in parts for error in part.rejects]
    if errors:
        told = [f"{error.details['place']}  {error.reason} [{error.code}]" for error in errors[:SHOWN]]
        yield Trouble("cannot be read", len(errors), told, is_failure=True)
    empty = [(part, at, 0) for part in parts for at in part.empty]
    yield from _told("nothing in a text", empty, is_failure=True)
    for name, pattern in FAULTS.items():
        found = (
            (part, at, match.start())
            for part in parts
            if name != _QUOTE or part.table.form == "table"
            for at, text in enumerate(part.texts)
            if (match := pattern.search(text))
        )
        yield from _told(name, list(found))
    middle = float(np.median([length for part in lengths for length in part]))
    limit = max(_LONG_LEAST, _LONG_TIMES * middle)
    sized = ((part, at, size) for part, sizes in zip(parts, lengths, strict=True) for at, size in enumerate(sizes))
    yield from _told(
        f"more than {limit:,.0f} long, the median is {middle:,.0f}",
        [(part, at, 0) for part, at, size in sized if size > limit],
    )
    yield from _told(
        f"the label '{_NO_CONSENSUS}', which SNLI and OCNLI have where people disagree: leave them out",
        [(part, at, 0) for part in parts for at, labels in enumerate(part.labels) if labels == [_NO_CONSENSUS]],
    )


def misfits(parts: Sequence[Part], options: Settings | None = None) -> Iterator[Trouble]:
    """Spans that do not stand on words, drawn, and answers that do not stand in their texts.

    Args:
        parts: the files.
        options: settings that the task understood; its `span_policy` decides whether training would refuse a span.
    """
    rule: UnitRule = getattr(options, "units", "runs")
    policy = getattr(options, "span_policy", None)
    found: dict[str, list[str]] = {}
    refused = set()
    for part in parts:
        for at, row in enumerate(part.table.rows):
            if part.table.form == "questions" and any(answer.start < 0 for answer in row["answers"]):
                found.setdefault("an answer is nowhere in its text", []).append(excerpt(part, at))
            if part.table.form != "tagged":
                continue
            words = row["words"] if row["words"] is not None else units(row["text"], rule)
            for span, reason in [*faults(row["text"], row["spans"], words), *row.get("doubts", ())]:
                name = f"a span {re.sub(r'^overlaps with .*', 'overlaps with another', reason, flags=re.DOTALL)}"
                found.setdefault(name, []).append(f"{place_of(part, at)}\n{drawn(row['text'], span)}")
                if policy == "strict" or (policy is None and reason != STRAY):
                    refused.add(name)
    for name, examples in found.items():
        yield Trouble(name, len(examples), examples[:SHOWN], is_failure=name in refused)


def refused_rows(parts: Sequence[Part], kind: type[Task], options: Settings) -> Iterator[Trouble]:
    """Rows to learn from or to choose by that the task itself refuses, for other reasons than are told elsewhere.

    Args:
        parts: the files; the first one is to be trained on.
        kind: the task.
        options: settings that it understood.
    """
    task = checker(kind, options, None, parts[0].table)
    found: dict[str, list[str]] = {}
    for part in parts:
        if part is not parts[0] and part.name != "dev":
            continue
        rejects, empty = Rejects(), set(part.empty)
        filled = part.table.part([at for at in range(len(part.texts)) if at not in empty])
        sound_rows(task, filled, rejects, has_texts=kind.form != "table")
        for error in rejects.errors:
            place = str(error.details["place"]).removeprefix(f"{part.table.path.parent}/")
            found.setdefault(error.code, []).append(f"{place}  {error.reason.splitlines()[0]}")
    for code, told in found.items():
        if code not in _TOLD:
            yield Trouble(f"refused by the task [{code}]", len(told), told[:SHOWN], is_failure=True)


def _told(name: str, rows: Sequence[tuple[Part, int, int]], *, is_failure: bool = False) -> Iterator[Trouble]:
    """The trouble of some rows, each with the character that it begins at; nothing if there are none."""
    if rows:
        yield Trouble(name, len(rows), [excerpt(part, at, start) for part, at, start in rows[:SHOWN]], is_failure)
