"""Everything public is documented: modules, classes, functions, methods, and each field of the settings."""

import ast
import importlib
from collections.abc import Iterator

import pytest

from tests.house.source import Function, Module, modules
from unmask.config import Settings


def undocumented(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not is_exempt(node):
            yield f"{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            yield from (f"{name} of {node.name}" for name in undocumented(node))


def is_exempt(node: Function | ast.ClassDef) -> bool:
    """A setter and an overload are documented by the function that they belong to."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(name.endswith((".setter", "overload")) for name in decorators)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_public_names_are_documented(module: Module) -> None:
    missing = [f"{module.place}:{name}" for name in undocumented(module.tree)]
    is_empty = not module.tree.body
    if not (ast.get_docstring(module.tree) or is_empty or module.name.rpartition(".")[2].startswith("_")):
        missing.append(f"{module.place}:1 the module")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_fields_of_settings_are_documented(module: Module) -> None:
    names = [node.name for node in module.tree.body if isinstance(node, ast.ClassDef)]
    if not any(
        "Settings" in ast.unparse(base)
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    ):
        return
    missing = [
        f"{module.name}.{name}.{field}"
        for name in names
        if isinstance(kind := getattr(importlib.import_module(module.name), name), type) and issubclass(kind, Settings)
        for field, info in kind.model_fields.items()
        if not info.description
    ]
    assert not missing, "\n".join(missing)
