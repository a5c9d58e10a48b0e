"""Settings: frozen pydantic models, read from TOML recipes and flags, written back as TOML.

The order is: defaults of the models < recipe < flags. This is the only parser of settings in the project.
"""

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from unmask.errors import UsageError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every section of settings: immutable, strict about names, documented by the line under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def resolve(kind: type[S], *layers: dict[str, Any], place: object = None) -> S:
    """Merge layers of plain values, later ones winning, into one validated settings object.

    Args:
        kind: the settings class.
        layers: nested dictionaries, such as a recipe and the flags that the user gave.
        place: where the values come from, for the error message.

    Raises:
        UsageError: unknown key (with the nearest known one), wrong type or value out of range; every mistake is named.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise explain(error, kind, place) from None


def explain(error: ValidationError, kind: type[BaseModel], place: object = None) -> UsageError:
    """Turn pydantic's error into one line per mistake, with a suggestion for an unknown key."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, field_names(kind), n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            lines.append(f"unknown setting '{name}'{hint}")
        else:
            lines.append(f"{name} = {item['input']!r}: {item['msg']}" if name else item["msg"])
    return UsageError(
        "bad-setting",
        "; ".join(lines),
        place=place,
        remedy="`--help` of the command and docs/reference/settings.md list every setting",
    )


def field_names(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all settings below `kind`, such as `optim.lr`."""
    names = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += field_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def flags(settings: BaseModel) -> dict[str, Any]:
    """The values that were really given (not left at their default), as a layer for `resolve`."""
    return settings.model_dump(exclude_unset=True)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("unmask") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, command: str) -> dict[str, Any]:
    """Read a recipe by its name, or a TOML file by its path, into plain values.

    Args:
        name: of a recipe, or path of a TOML file.
        command: the command that it is used for; the recipe's own key `command`, if it has one, must say the same.

    Raises:
        UsageError: there is no such recipe, it is not TOML, or it belongs to another command.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in recipe_names():
            near = difflib.get_close_matches(name, recipe_names(), n=1)
            raise UsageError(
                "unknown-recipe",
                f"there is no recipe '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
                expected=f"one of {', '.join(recipe_names())}, or the path of a .toml file",
            )
        text = (resources.files("unmask") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        if not path.is_file():
            raise UsageError("unknown-recipe", "the recipe file does not exist", place=path)
        text = path.read_text("utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("bad-recipe", f"the recipe is not valid TOML: {error}", place=name) from None
    meant = values.pop("command", command)
    if meant != command:
        raise UsageError(
            "other-command", f"this recipe is for `unmask {meant}`, not for `unmask {command}`", place=name
        )
    return values


def to_toml(settings: BaseModel) -> str:
    """All settings, resolved and complete, as TOML; `None` is left out because it is the default."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
