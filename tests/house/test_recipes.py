"""Every recipe resolves into the settings of the command that it names."""

import pytest

from unmask.config import load_recipe, recipe_names, resolve, to_toml
from unmask.errors import UsageError
from unmask.train.settings import FinetuneSettings, PretrainSettings

KINDS = {"pretrain": PretrainSettings, "finetune": FinetuneSettings}


def test_there_are_recipes() -> None:
    assert recipe_names()
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_resolves(name: str) -> None:
    recipe = load_recipe(name)
    settings = resolve(KINDS[recipe["command"]], recipe, place=name)
    assert to_toml(settings)


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_is_checked_against_its_command(name: str) -> None:
    recipe = load_recipe(name)
    [other] = KINDS.keys() - {recipe["command"]}
    with pytest.raises(UsageError, match="command"):
        resolve(KINDS[other], recipe, place=name)
