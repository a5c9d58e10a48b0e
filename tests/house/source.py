"""The package as syntax trees, for the tests of the house."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "unmask"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: dotted name, such as `unmask.data.rows`; a package has the name of its folder.
        path: the file.
        tree: its syntax tree.
    """

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the name after `unmask.`; the package itself is the room ``."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def place(self) -> str:
        """The file as it is named in messages."""
        return self.path.relative_to(ROOT).as_posix()


@functools.cache
def modules() -> tuple[Module, ...]:
    """All modules of the package, sorted by name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text("utf-8"))))
    return tuple(sorted(found, key=lambda module: module.name))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """All functions and methods below `tree` with their dotted names, those inside other functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield f"{prefix}{node.name}", node
        inner = isinstance(node, Function | ast.ClassDef)
        yield from functions(node, f"{prefix}{node.name}." if inner else prefix)


def imports(module: Module, known: frozenset[str]) -> Iterator[tuple[str, int, bool]]:
    """What a module imports from the package or from outside.

    Args:
        module: the module to read.
        known: names of all modules, to tell `from room import module` from `from module import name`.

    Yields:
        The imported module, the line, and whether the import stands inside a function.
    """
    lazy = {id(node) for _, function in functions(module.tree) for node in ast.walk(function)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in lazy
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.place}:{node.lineno}: write the import with its full name"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in known else str(node.module)), node.lineno, id(node) in lazy


def parameters(function: Function) -> list[str]:
    """Names of a function's parameters without `self` and `cls`."""
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    names += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [name for name in names if name not in ("self", "cls")]
