"""Files, functions, parameter lists and class trees stay small; each exception has a reason."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, ROOT, Module, functions, modules, parameters

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70
USUAL_FUNCTION_LINES = 35
USUAL_SHARE = 0.9
MAX_PARAMETERS = 8
MAX_DEPTH = 1

# name -> reason. A file by its path, a function as `module:function`, a class as `module:Class`.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {
    "unmask.checkpoint:save_model": "names every part of a model folder once; keyword-only",
    "unmask.predict:Predictor.load": "the door of all users names each choice once; keyword-only",
    "unmask.data.masking:mask": "a pure function takes all that the masks depend on; options keyword-only",
}
DEEP_CLASSES = {
    "unmask.train.settings:FinetuneOptimSettings": "other defaults of the same fields, which help shows",
    "unmask.tasks.sentence_pairs:SentencePairsLM": "it is the masked language model, with one more question",
    "unmask.train.settings:PretrainMachineSettings": "the same fields and a few more",
    "unmask.train.settings:PretrainSettings": "what the data room reads and what the loop adds, as one list of flags",
}


def all_files() -> list[Path]:
    folders = (PACKAGE, ROOT / "tests", ROOT / "docs", ROOT / "benchmarks")
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def lines_of(function: ast.AST) -> int:
    return function.end_lineno - function.lineno + 1


def all_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module in modules():
        for name, function in functions(module.tree):
            yield f"{module.name}:{name}", function


def own_bases() -> dict[str, list[str]]:
    """Each class of the package, by its bare name, with the bare names of its bases."""
    bases = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                bases[f"{module.name}:{node.name}"] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    return bases


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_is_short(path: Path) -> None:
    count = len(path.read_text("utf-8").splitlines())
    assert count <= MAX_FILE_LINES or path.relative_to(ROOT).as_posix() in LONG_FILES, f"{count} lines"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_functions_are_short(module: Module) -> None:
    long = [
        f"{module.place}:{function.lineno} {name} has {lines_of(function)} lines"
        for name, function in functions(module.tree)
        if lines_of(function) > MAX_FUNCTION_LINES and f"{module.name}:{name}" not in LONG_FUNCTIONS
    ]
    assert not long, "\n".join(long)


def test_nine_of_ten_functions_are_quite_short() -> None:
    lengths = {name: lines_of(function) for name, function in all_functions()}
    above = {name: length for name, length in lengths.items() if length > USUAL_FUNCTION_LINES}
    assert len(above) <= (1 - USUAL_SHARE) * len(lengths), f"{len(above)} of {len(lengths)}: {above}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_parameters_are_few(module: Module) -> None:
    many = [
        f"{module.place}:{function.lineno} {name} has {len(parameters(function))} parameters"
        for name, function in functions(module.tree)
        if len(parameters(function)) > MAX_PARAMETERS and f"{module.name}:{name}" not in MANY_PARAMETERS
    ]
    assert not many, "\n".join(many)


def test_class_trees_are_flat() -> None:
    by_class = own_bases()
    by_name: dict[str, list[str]] = {}
    for name, bases in by_class.items():
        by_name.setdefault(name.rpartition(":")[2], []).extend(bases)

    def depth(name: str, seen: tuple[str, ...] = ()) -> int:
        if name not in by_name or name in seen:
            return -1
        return 1 + max((depth(base, (*seen, name)) for base in by_name[name]), default=-1)

    deep = {name: depth(name.rpartition(":")[2]) for name in by_class if depth(name.rpartition(":")[2]) > MAX_DEPTH}
    assert not deep.keys() - DEEP_CLASSES.keys(), deep


def test_exceptions_are_in_use() -> None:
    long_files = {path.relative_to(ROOT).as_posix() for path in all_files() if is_long(path)}
    by_name = dict(all_functions())
    long_functions = {name for name, function in by_name.items() if lines_of(function) > MAX_FUNCTION_LINES}
    many = {name for name, function in by_name.items() if len(parameters(function)) > MAX_PARAMETERS}
    assert LONG_FILES.keys() <= long_files
    assert LONG_FUNCTIONS.keys() <= long_functions
    assert MANY_PARAMETERS.keys() <= many


def is_long(path: Path) -> bool:
    return len(path.read_text("utf-8").splitlines()) > MAX_FILE_LINES


def test_repository_holds_no_large_file() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    large = [name for name in done.stdout.split("\0") if name and (ROOT / name).stat().st_size > 1_000_000]
    models = "src/unmask/bundled/models/"  # tests/flow/test_bundled_models.py limits them
    assert not [name for name in large if not name.startswith(models)]
