"""Imports go only downwards, without rings, and never hide inside a function."""

import subprocess
import sys

import pytest

from tests.house.source import Module, imports, modules

# From the bottom to the top. A room imports from lower rows and from itself; rooms of one row do not know each other.
ROWS = [
    {"errors", "bundled"},
    {"disk"},
    {"config", "runtime", "storage", "metrics", "pages", "processes"},
    {"tokenizer", "model"},
    {"data", "checkpoint"},
    {"tasks"},
    {"engine"},
    {"predict", "light"},
    {"evaluate", "exported", "golden", "serve", "stream"},
    {"certify"},
    {"train"},
    {"study", "compress"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {room: height for height, row in enumerate(ROWS) for room in row}

# The only modules that import by name at run time: each holds one table of names.
TABLES = {"unmask", "unmask.cli", "unmask.tasks"}

# Imports inside functions that are allowed, each with its reason: (module, imported) -> reason.
LAZY: dict[tuple[str, str], str] = {
    (
        "unmask.train.parallel",
        "unmask.train.sharded",
    ): "torch's sharding takes seconds to import; one rank needs none",
    (
        "unmask.engine.choice",
        "unmask.engine.onnx",
    ): "onnxruntime takes a fifth of a second and 26 MB; the other engines need none of it",
    (
        "unmask.data.files",
        "pyarrow",
    ): "170 MB on the disk that an exported model, which reads no such files, does without",
    (
        "unmask.data.rows",
        "unmask.data.parquet_rows",
    ): "the same pyarrow, for one of many formats",
    (
        "unmask.model.attention",
        "torch.nn.attention.varlen",
    ): "it takes seconds to import, and only a card needs it",
    (
        "unmask.metrics.classes",
        "sklearn",
    ): "scikit-learn takes half a second and 40 MB; answering needs no scores",
}

# These start the command line or prepare data in many processes, where torch costs seconds and memory.
WITHOUT_TORCH = tuple(
    f"unmask.{name}" for name in ("cli", "tokenizer", "config", "errors", "disk", "storage", "processes", "light")
)
WITHOUT_TORCH_DATA = tuple(
    f"unmask.data.{name}"
    for name in (
        "files",
        "rows",
        "clean",
        "corpus",
        "packing",
        "planning",
        "pairs",
        "heldout",
        "mixture",
        "curriculum",
        "prefetch",
        "settings",
        "order",
        "masking",
    )
)

NAMES = frozenset(module.name for module in modules())


def is_below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def room_of(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def edges(module: Module) -> set[str]:
    return {name for name, _, lazy in imports(module, NAMES) if name in NAMES and name != module.name and not lazy}


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_go_downwards(module: Module) -> None:
    if module.name == "unmask":
        assert not edges(module), "unmask/__init__.py loads the public names on first use"
        return
    assert module.room in HEIGHT, f"{module.place} is in no row; add its room to ROWS"
    wrong = [
        f"{module.place}:{line} imports {name}"
        for name, line, _ in imports(module, NAMES)
        if name.startswith("unmask.") and room_of(name) != module.room and HEIGHT[room_of(name)] >= HEIGHT[module.room]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_no_import_hides_inside_a_function(module: Module) -> None:
    hidden = [
        f"{module.place}:{line} imports {name} inside a function"
        for name, line, lazy in imports(module, NAMES)
        if lazy and module.name not in TABLES and (module.name, name) not in LAZY
    ]
    text = module.path.read_text("utf-8")
    if module.name not in TABLES:
        hidden += [f"{module.place} uses {word}" for word in ("import_module", "__import__") if word in text]
    assert not hidden, "\n".join(hidden)


def test_there_is_no_ring() -> None:
    graph = {module.name: edges(module) for module in modules()}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    ring = [f"{name} -> {', '.join(sorted(targets & graph.keys()))}" for name, targets in sorted(graph.items())]
    assert not ring, "these modules import each other:\n" + "\n".join(ring)


def test_exceptions_are_in_use() -> None:
    used = {(module.name, name) for module in modules() for name, _, lazy in imports(module, NAMES) if lazy}
    assert not LAZY.keys() - used, "these exceptions can go"


@pytest.mark.parametrize("root", [*WITHOUT_TORCH, *WITHOUT_TORCH_DATA])
def test_module_starts_without_torch(root: str) -> None:
    names = [name for name in sorted(NAMES) if is_below(name, (root,))]
    assert names or root in WITHOUT_TORCH_DATA, f"there is no module {root}"
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} brings torch in'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
