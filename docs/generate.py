"""Write the pages of docs/reference from the code: commands, settings, errors, Python names.

`python docs/generate.py` writes them, `python docs/generate.py --check` shows what is stale and exits with 1.
"""

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import unmask
from unmask import errors
from unmask.cli import app
from unmask.evaluate import Evaluation
from unmask.tasks import TASKS, find_task
from unmask.tasks.rows import Prediction
from unmask.train.settings import FinetuneSettings, PretrainSettings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unmask"
REFERENCE = ROOT / "docs" / "reference"
HEADER = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.UnmaskError) and kind is not errors.UnmaskError
}
SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")


def pages() -> dict[str, str]:
    """Text of every generated page, by its file name."""
    made = {"api.md": api_page(), "cli.md": cli_page(), "errors.md": errors_page(), "settings.md": settings_page()}
    return {name: f"{HEADER}{text.strip()}\n" for name, text in made.items()}


def cli_page() -> str:
    """Every command with its parameters, as the command line itself describes them."""
    text = app.generate_docs(output_format="markdown")
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).replace("# unmask\n", "# Commands\n", 1)


def settings_page() -> str:
    """Every setting of pre-training and fine-tuning with type, default and meaning."""
    parts = [
        "# Settings\n\nA recipe (TOML) sets them as `[section]` and `name = value`, a flag as `--section.name value`. "
        "Defaults give way to the recipe, the recipe to flags; the resolved settings stand in `config.toml` of the run."
    ]
    for command, kind in (("pretrain", PretrainSettings), ("finetune", FinetuneSettings)):
        parts.append(f"## unmask {command}\n\n{cleandoc(kind)}")
        parts += settings_tables(kind())
    return "\n\n".join(parts)


def settings_tables(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    """One table for the plain fields of a section, then one for each section below it."""
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    below: list[str] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            below.append(f"### [{prefix}{name}]\n\n{cleandoc(type(value))}")
            below += settings_tables(value, f"{prefix}{name}.")
        else:
            default = "" if value is None else f"`{value}`"
            rows.append(f"| `{prefix}{name}` | {type_of(field)} | {default} | {cell(field.description or '')} |")
    yield from ["\n".join(rows), *below]


def type_of(field: FieldInfo) -> str:
    """A field's type and bounds in words, such as `int, above 0`."""
    return cell(", ".join([plain_type(field.annotation), *bounds(field.metadata)]))


def plain_type(kind: Any) -> str:
    """A type in words, without the modules of its parts."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return ", ".join([plain_type(arguments[0]), *bounds(arguments[1:])])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(plain_type(argument) for argument in arguments)
    if origin:
        return f"{origin.__name__}[{'; '.join(plain_type(argument) for argument in arguments)}]"
    return "none" if kind is NoneType else str(getattr(kind, "__name__", kind))


def bounds(marks: Iterable[Any]) -> list[str]:
    """Limits of a number in words, from the marks of its annotation."""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    plain = [inner for mark in marks for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
    return [f"{word} {getattr(mark, name):g}" for mark in plain for name, word in words.items() if hasattr(mark, name)]


def errors_page() -> str:
    """Every error a user can meet, found in the code, by exit code."""
    parts = [
        "# Errors\n\nA message names the code in brackets, then the place, the value, what was expected and the fix. "
        "The exit code of the command tells the kind; 1 is a bug, which keeps its traceback."
    ]
    calls: dict[str, dict[tuple[str, str], set[str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for made, code, reason in error_calls(ast.parse(path.read_text("utf-8"))):
            where = path.relative_to(PACKAGE).as_posix()
            calls.setdefault(made, {}).setdefault((code, reason), set()).add(f"`{where}`")
    for name, kind in sorted(ERRORS.items(), key=lambda item: str(exit_code(item[1]))):
        parts.append(f"## Exit code {exit_code(kind)}: {name}\n\n{cleandoc(kind)}")
        rows = [
            f"| `{code}` | {cell(reason)} | {', '.join(sorted(where))} |"
            for (code, reason), where in sorted(calls.get(name, {}).items())
        ]
        if rows:
            parts.append("\n".join(["| code | message | where |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def error_calls(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Class, code and message of each error that a module makes; what is filled in stands in braces."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS):
            continue
        if len(node.args) >= 2 and isinstance(node.args[0], ast.Constant):
            yield node.func.id, str(node.args[0].value), template(node.args[1])


def template(node: ast.expr) -> str:
    """The text that an expression makes, with `{...}` where a value is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    if isinstance(node, ast.IfExp):
        return " / ".join(text for text in (template(node.body), template(node.orelse)) if text)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    return f"{{{inner.id}}}" if isinstance(inner, ast.Name) else "{...}"


def exit_code(kind: type[errors.UnmaskError]) -> str:
    """The exit code of an error's class."""
    return "130, 143" if kind is errors.InterruptedRunError else str(kind.exit_code)


def api_page() -> str:
    """The public names of the package with signatures and docstrings."""
    parts = ["# Python names\n\nWhat `from unmask import ...` gives; they load on first use."]
    for name in unmask.__all__:
        found = getattr(unmask, name)
        parts.append(f"## {name}\n\n{signature(name, found)}\n\n{markdown(found)}")
        if inspect.isclass(found):
            parts += members(found)
    parts.append("## What comes back\n\nFrozen dataclasses; `dataclasses.asdict` makes plain dictionaries of them.")
    parts += [f"### {kind.__name__}\n\n{markdown(kind)}" for kind in answers()]
    return "\n\n".join(parts)


def answers() -> Iterator[type]:
    """What evaluation and the tasks answer with, each class before those of its parts."""
    told: dict[type, None] = {Evaluation: None}
    for path in TASKS.values():
        for kind in list(vars(inspect.getmodule(find_task(path))).values()):
            if inspect.isclass(kind) and issubclass(kind, Prediction) and kind is not Prediction:
                told |= dict.fromkeys(parts_of(kind))
    return iter(told)


def parts_of(kind: type) -> Iterator[type]:
    """A dataclass, and those that its fields hold."""
    yield kind
    for hint in get_type_hints(kind).values():
        for inner in (hint, *get_args(hint)):
            if inspect.isclass(inner) and is_dataclass(inner):
                yield from parts_of(inner)


def members(kind: type) -> Iterator[str]:
    """Public methods and properties that a class itself defines."""
    for name, member in vars(kind).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if (name.startswith("_") and name != "__call__") or not (
            inspect.isfunction(plain) or isinstance(plain, property)
        ):
            continue
        heading = f"### {kind.__name__}.{name}"
        if isinstance(plain, property):
            yield f"{heading}\n\nProperty. {markdown(plain)}"
        else:
            yield f"{heading}\n\n{signature(f'{kind.__name__}.{name}', plain)}\n\n{markdown(plain)}"


def signature(name: str, found: object) -> str:
    """How something is called, as a code block."""
    text = re.sub(r"(?:[a-z_]+\.)+(?=[A-Z])", "", str(inspect.signature(found)))  # type: ignore[arg-type]
    text = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)
    text = re.sub(r"^\((self|cls)(, )?", "(", text).replace("'", "")
    if len(text) > 90:
        text = re.sub(r"^\((.*)\)( ->.*)?$", lambda match: broken(match[1], match[2] or ""), text)
    return f"```python\n{name}{text}\n```"


def broken(arguments: str, result: str) -> str:
    """A long signature with one argument on a line."""
    lines = re.split(r", (?![^\[(]*[\])])", arguments)
    return "(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"


def markdown(found: object) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    in_section = False
    for line in cleandoc(found).splitlines():
        if line in SECTIONS:
            lines += [f"**{line}**", ""]
            in_section = True
        elif in_section and line.startswith("    ") and not line.startswith("     "):
            lines.append("- " + re.sub(r"^([*]*[a-z_A-Z, ]+):", r"`\1`:", line.strip()))
        elif in_section and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            in_section = in_section and not line.strip()
            lines.append(line)
    return "\n".join(lines)


def cleandoc(found: object) -> str:
    """A docstring without its indentation."""
    return inspect.cleandoc(getattr(found, "__doc__", None) or "")


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def stale(made: dict[str, str]) -> str:
    """The difference between the pages on disk and those that the code makes; empty when they are the same."""
    shown: list[str] = []
    for name, text in made.items():
        path = REFERENCE / name
        old = path.read_text("utf-8") if path.is_file() else ""
        shown += difflib.unified_diff(old.splitlines(True), text.splitlines(True), f"{name} on disk", f"{name} made")
    shown += [f"{path.name}: made by nothing\n" for path in sorted(REFERENCE.glob("*.md")) if path.name not in made]
    return "".join(shown)


def main(words: list[str]) -> int:
    """Write the pages, or check them."""
    made = pages()
    if words == ["--check"]:
        difference = stale(made)
        sys.stderr.write(difference + ("run `make docs`\n" if difference else ""))
        return 1 if difference else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (REFERENCE / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
