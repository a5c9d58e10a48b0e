"""What travels with the package: text, labelled rows, and encoders to start from, under names instead of paths."""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

FOLDER = Path(str(resources.files("unmask") / "bundled"))
ENGLISH = "unmask-small-en"
CHINESE = "unmask-mini-zh"

_MODELS = FOLDER / "models"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile("[A-Za-z]")
_LEAST_HAN, _LEAST_LATIN = 0.2, 0.9  # a Han character is a word, of which Latin ones have five letters


def model_names() -> list[str]:
    """Names of the bundled models, sorted."""
    return sorted(path.name for path in _MODELS.iterdir())


def find_model(folder: str | Path) -> Path:
    """The folder of a model that is given by its path or by the name of a bundled one.

    Args:
        folder: path, or a name of `model_names`; a path that exists wins.
    """
    path = Path(folder)
    is_name = str(folder) in model_names() and not path.exists()
    return _MODELS / path if is_name else path


def model_for(texts: Iterable[str]) -> str | None:
    """Name of the bundled model that was trained on text in the script of these; None for a script of no model.

    Args:
        texts: some of the user's, any number.
    """
    text = "".join(texts)
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    if len(_HAN.findall(text)) >= _LEAST_HAN * letters:
        return CHINESE
    return ENGLISH if len(_LATIN.findall(text)) >= _LEAST_LATIN * letters else None
