"""What a module offers by `__all__` is there, and in order."""

import ast
import importlib
import subprocess
import sys

import pytest

import unmask
from tests.house.source import Module, modules


def declares_all(module: Module) -> bool:
    return any(
        isinstance(target, ast.Name) and target.id == "__all__"
        for node in module.tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
    )


@pytest.mark.parametrize("module", list(filter(declares_all, modules())), ids=lambda module: module.name)
def test_all_is_sorted_and_importable(module: Module) -> None:
    loaded = importlib.import_module(module.name)
    assert list(loaded.__all__) == sorted(set(loaded.__all__))
    missing = [name for name in loaded.__all__ if not hasattr(loaded, name)]
    assert not missing, f"{module.place} promises {missing}"


@pytest.mark.parametrize("name", unmask.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert getattr(unmask, name).__doc__


@pytest.mark.parametrize("before", ["", "import unmask.evaluate, unmask.predict, unmask.tokenizer.load; "])
def test_public_name_is_not_the_module_of_that_name(before: str) -> None:
    names = ", ".join(unmask.__all__)
    code = f"{before}from unmask import {names}; print([name for name in ({names}) if not callable(name)])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = unmask.Predicter  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, unmask; print([name for name in ('torch', 'numpy', 'pydantic', 'pyarrow') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
