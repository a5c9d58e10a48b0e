"""Every recipe resolves into the settings of the command that it names."""

import tomllib
from importlib import resources

import pytest

from unmask.config import load_recipe, recipe_names, resolve, to_toml
from unmask.errors import UsageError
from unmask.train.settings import BuildSettings, FinetuneSettings, PretrainSettings

KINDS = {"pretrain": PretrainSettings, "finetune": FinetuneSettings, "build": BuildSettings}


def command_of(name: str) -> str:
    text = (resources.files("unmask") / "recipes" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)["command"]


def test_there_are_recipes() -> None:
    assert recipe_names()
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_resolves(name: str) -> None:
    command = command_of(name)
    assert to_toml(resolve(KINDS[command], load_recipe(name, command), place=name))


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_is_checked_against_its_command(name: str) -> None:
    for other in KINDS.keys() - {command_of(name)}:
        with pytest.raises(UsageError, match=f"not for `unmask {other}`"):
            load_recipe(name, other)
