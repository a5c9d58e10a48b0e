"""What the package asks to be installed is what its code imports."""

import re
import tomllib

import pytest

from tests.house.source import ROOT, imports, modules
from unmask.cli.start import EXTRAS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# For the work on the package, not for its users.
TOOLS = {"bench", "dev"}
NAMES = {"scikit-learn": "sklearn"}
IMPORTED = {name.partition(".")[0] for module in modules() for name, _, _ in imports(module, frozenset())}


def packages(requirements: list[str]) -> list[str]:
    """Names without versions."""
    return [re.split(r"[<>=!~\[; ]", one)[0] for one in requirements]


NEEDED = packages(PROJECT["dependencies"])
OPTIONAL = {name: packages(ones) for name, ones in PROJECT["optional-dependencies"].items() if name not in TOOLS}


@pytest.mark.parametrize("package", [*NEEDED, *(one for ones in OPTIONAL.values() for one in ones)])
def test_each_package_is_imported(package: str) -> None:
    assert NAMES.get(package, package).replace("-", "_") in IMPORTED


def test_doctor_looks_for_the_extras_that_there_are() -> None:
    assert {name: list(ones) for name, ones in EXTRAS.items()} == OPTIONAL
