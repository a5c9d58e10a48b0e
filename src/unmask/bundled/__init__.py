"""What travels with the package: text, labelled rows, and encoders to start from, under names instead of paths."""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

FOLDER = Path(str(resources.files("unmask") / "bundled"))
ENGLISH = "unmask-small-en"
CHINESE = "unmask-mini-zh"
LANGUAGES = {ENGLISH: "English", CHINESE: "Chinese"}

_MODELS = FOLDER / "models"
_CONFIG = "config.json"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3040-\u30ff]")
_LATIN = re.compile("[A-Za-z]")
_LEAST_KANA, _LEAST_LATIN = 0.1, 0.9
_LEAST_HAN = 0.2  # a Han character is a word, of which Latin ones have five letters


def model_names() -> list[str]:
    """Names of the bundled models, sorted."""
    return sorted(path.parent.name for path in _MODELS.glob(f"*/{_CONFIG}"))


def find_model(folder: str | Path) -> Path:
    """The folder of a model that is given by its path, by the run that made it, or by the name of a bundled one.

    Args:
        folder: path of a model folder or of a run folder, or a name of `model_names`; a path that exists wins.
    """
    path = Path(folder)
    if not path.exists() and str(folder) in model_names():
        return _MODELS / path
    is_run = not (path / _CONFIG).exists() and (path / "model" / _CONFIG).is_file()
    return path / "model" if is_run else path


def model_for(texts: Iterable[str]) -> str | None:
    """Name of the bundled model that was trained on text in the script of these; None for a script of no model.

    A script is not yet a language: German is taken for English here. Japanese, which has Han characters too, is not
    taken for Chinese.

    Args:
        texts: some of the user's, any number.
    """
    text = "".join(texts)
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    if len(_HAN.findall(text)) >= _LEAST_HAN * letters:
        return None if len(_KANA.findall(text)) >= _LEAST_KANA * letters else CHINESE
    return ENGLISH if len(_LATIN.findall(text)) >= _LEAST_LATIN * letters else None
