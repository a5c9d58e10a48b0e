"""What a disk may hold after the power failed at any moment of a recorded piece of work.

The model is harsher than most file systems. A change of the names in a folder is certain to last once that folder was
flushed, and the content of a file once that file was. Until then each change may have come to the disk or not,
whatever became of the others, and content may be missing, cut, or zeros of the right length.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unmask.disk import Operation

Tree = dict[str, bytes | None]
"""Content of files by relative path; None for a folder."""

_FATES = {
    "kept": lambda data: data,
    "dropped": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
}
_MOST_FREE = 8  # of so many changes that may have lasted, all subsets are tried


@dataclass(eq=False)
class Node:
    """A file or a folder: what it was before the work, and the names that it holds by now."""

    data: bytes | None = None
    names: "dict[str, Node]" = field(default_factory=dict)
    now: "dict[str, Node]" = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Change:
    """A name that leaves a folder, or enters it, or both; or a part that a file grows by."""

    moment: int
    node: Node
    leaving: str | None = None
    entering: str | None = None
    child: Node | None = None
    part: bytes = b""


class Record:
    """A piece of work on a tree that was flushed before.

    Args:
        tree: what was there.
        operations: what was done, in order.
        root: that the tree's paths are relative to.
    """

    def __init__(self, tree: Tree, operations: Iterable[Operation], root: Path) -> None:
        self._root = Node()
        self._changes: list[Change] = []
        self._flushes: list[tuple[int, Node]] = []
        for name, data in sorted(tree.items()):
            *parents, last = name.split("/")
            self._find(parents).names[last] = self._find(parents).now[last] = Node(data)
        self.num_moments = 1
        for operation in operations:
            self._note(operation, root)
            self.num_moments += 1

    def states(self) -> Iterator[tuple[int, Tree]]:
        """Every state that a crash may leave, with the number of operations before it; none twice for a moment."""
        for moment in range(self.num_moments):
            past = [change for change in self._changes if change.moment < moment]
            free = [change for change in past if not self._is_flushed(change, moment)]
            found: list[Tree] = []
            for names in _subsets([change for change in free if not change.part]):
                for fate in _FATES if any(change.part for change in free) else ("kept",):
                    lost = {change for change in free if not change.part} - set(names)
                    torn = {change for change in free if change.part}
                    state = self._state([change for change in past if change not in lost], torn, fate)
                    if state not in found:
                        found.append(state)
                        yield moment, state

    def _note(self, operation: Operation, root: Path) -> None:
        moment = self.num_moments - 1
        *parents, name = operation.path.relative_to(root).parts or ("",)
        folder = self._find(parents)
        match operation.kind:
            case "sync":
                self._flushes.append((moment, folder.now[name] if name else folder))
            case "write":
                self._changes.append(Change(moment, folder.now[name], part=bytes(operation.data)))
            case "make" | "create":
                self._rename(moment, folder, None, name, Node(None if operation.kind == "make" else b""))
            case "unlink" | "remove":
                self._rename(moment, folder, name, None, None)
            case "rename":
                assert operation.target is not None
                assert operation.target.parent == operation.path.parent
                self._rename(moment, folder, name, operation.target.name, folder.now[name])

    def _rename(self, moment: int, folder: Node, old: str | None, new: str | None, child: Node | None) -> None:
        self._changes.append(Change(moment, folder, old, new, child))
        _enter(folder.now, self._changes[-1])

    def _find(self, parents: Iterable[str]) -> Node:
        node = self._root
        for name in parents:
            node = node.now[name]
        return node

    def _is_flushed(self, change: Change, moment: int) -> bool:
        return any(node is change.node and change.moment < when < moment for when, node in self._flushes)

    def _state(self, kept: list[Change], torn: set[Change], fate: str) -> Tree:
        names: dict[Node, dict[str, Node]] = {}
        sure: dict[Node, bytes] = {}
        loose: dict[Node, bytes] = {}
        for change in kept:
            if change.part:
                parts = loose if change in torn else sure
                parts[change.node] = parts.get(change.node, b"") + change.part
            else:
                _enter(names.setdefault(change.node, dict(change.node.names)), change)

        def walk(node: Node, prefix: str) -> Iterator[tuple[str, bytes | None]]:
            for name, child in names.get(node, node.names).items():
                is_file = child.data is not None
                data = (child.data or b"") + sure.get(child, b"") + _FATES[fate](loose.get(child, b""))
                yield prefix + name, data if is_file else None
                yield from walk(child, f"{prefix}{name}/")

        return dict(walk(self._root, ""))


def plant(tree: Tree, folder: Path) -> None:
    """Write a tree into an empty folder."""
    for name, data in sorted(tree.items()):
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def harvest(folder: Path) -> Tree:
    """All that lies below a folder."""
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in paths}


def _enter(names: dict[str, Node], change: Change) -> None:
    if change.leaving is not None:
        names.pop(change.leaving, None)
    if change.entering is not None and change.child is not None:
        names[change.entering] = change.child


def _subsets(changes: list[Change]) -> Iterator[tuple[Change, ...]]:
    """All subsets of a few; of many, none, all, the first few, all but one, and one."""
    if len(changes) <= _MOST_FREE:
        for size in range(len(changes) + 1):
            yield from itertools.combinations(changes, size)
        return
    for number in range(len(changes) + 1):
        yield tuple(changes[:number])
        yield tuple(changes[:number] + changes[number + 1 :])
        yield tuple(changes[number : number + 1])
