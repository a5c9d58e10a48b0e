"""Every error of the package has a constant code in kebab-case, so that the reference can list it."""

import ast
import re

import pytest

from tests.house.source import Module, modules
from unmask import errors

KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.UnmaskError)}
KINDS -= {"InterruptedRunError"}  # has its code inside
CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_codes_are_constant(module: Module) -> None:
    wrong = [
        f"{module.place}:{node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in KINDS
        and not (node.args and isinstance(node.args[0], ast.Constant) and CODE.fullmatch(str(node.args[0].value)))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_handler_is_bare_or_broad() -> None:
    wrong = [
        f"{module.place}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not isinstance(node.body[-1], ast.Raise)
    ]
    assert not wrong, "\n".join(wrong)


def test_exit_codes_differ() -> None:
    kinds = [getattr(errors, name) for name in KINDS]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
