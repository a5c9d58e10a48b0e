"""Rows that stand twice: in one file, or in two of one data set."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from unmask.data.near import find_copies, normal
from unmask.study.row_parts import SHOWN, Overlap, Part, excerpt, place_of

Where = dict[int, list[int]]


def find_overlaps(parts: Sequence[Part]) -> list[Overlap]:
    """Copies inside each part and between each two, those without any left out."""
    copies = find_copies([text for part in parts for text in part.units])
    near: dict[int, list[int]] = defaultdict(list)
    for first, second, _ in copies.near:
        near[first].append(second)
        near[second].append(first)
    keys, at = [], 0
    for part in parts:
        keys.append(copies.equal[at : at + len(part.units)].tolist())
        at += len(part.units)
    found = [_inside(part, key, near) for part, key in zip(parts, keys, strict=True)]
    for first, second in combinations(range(len(parts)), 2):
        found.append(_between(parts[first], keys[first], parts[second], keys[second], near))
    return [one for one in found if one.equal + one.near]


def _inside(part: Part, keys: list[int], near: dict[int, list[int]]) -> Overlap:
    """Rows that are like an earlier one of their own file; questions about one text are no copies of each other."""
    if part.table.form in ("questions", "choices"):
        names: dict[str, int] = {}
        keys, near = [names.setdefault(normal(text), at) for at, text in enumerate(part.texts)], {}
    seen: Where = {}
    equal, nearly, other = 0, 0, 0
    examples: list[str] = []
    for index, key in enumerate(keys):
        like = [key] if key in seen else [neighbour for neighbour in near.get(key, ()) if neighbour in seen]
        if key in seen:
            equal += 1
            other += all(sorted(part.labels[index]) != sorted(part.labels[at]) for at in seen[key])
        elif like:
            nearly += 1
        if like and len(examples) < SHOWN:
            sign = "=" if key in seen else "~"
            examples.append(f"{place_of(part, seen[like[0]][0])} {sign} {excerpt(part, index)}")
        seen.setdefault(key, []).append(index)
    return Overlap(part.name, part.name, len(keys), equal, nearly, other, examples)


def _between(one: Part, one_keys: list[int], two: Part, two_keys: list[int], near: dict[int, list[int]]) -> Overlap:
    """Rows of the second part that are like one of the first."""
    known: Where = {}
    for index, key in enumerate(one_keys):
        known.setdefault(key, []).append(index)
    equal, nearly, other = 0, 0, 0
    examples: list[str] = []
    for index, key in enumerate(two_keys):
        like = [key] if key in known else [neighbour for neighbour in near.get(key, ()) if neighbour in known]
        if not like:
            continue
        sign = "=" if key in known else "~"
        if key in known:
            equal += 1
            labels = sorted(two.labels[index])
            other += bool(labels) and all(sorted(one.labels[at]) != labels for at in known[key])
        else:
            nearly += 1
        if len(examples) < SHOWN:
            examples.append(f"{place_of(one, known[like[0]][0])} {sign} {excerpt(two, index)}")
    return Overlap(one.name, two.name, len(two_keys), equal, nearly, other, examples)
