"""What travels with the package: text, labelled rows, and encoders to start from, under names instead of paths."""

import functools
import logging
import re
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

log = logging.getLogger("unmask")

FOLDER = Path(str(resources.files("unmask") / "bundled"))
ENGLISH = "unmask-small-en"
CHINESE = "unmask-mini-zh"
LANGUAGES = {ENGLISH: "English", CHINESE: "Chinese"}

_MODELS = FOLDER / "models"
_CONFIG = "config.json"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3040-\u30ff]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_LEAST_KANA, _LEAST_LATIN = 0.1, 0.9
_LEAST_HAN = 0.2  # a Han character is a word, of which Latin ones have five letters


def model_names() -> list[str]:
    """Names of the bundled models, sorted."""
    return sorted(path.parent.name for path in _MODELS.glob(f"*/{_CONFIG}"))


def bundled_model(name: str) -> Path:
    """The folder of a bundled model, whatever lies in the working directory."""
    return _MODELS / name


def named(folder: str | Path) -> Path:
    """The folder of a bundled model that is given by its name; else the path itself, which wins where it exists."""
    path = Path(folder)
    if str(path) in model_names():
        if not path.exists():
            return bundled_model(str(path))
        _tell_shadow(path)
    return path


def find_model(folder: str | Path) -> Path:
    """The folder of a model that is given by its path, by the run that made it, or by the name of a bundled one.

    Args:
        folder: path of a model folder or of a run folder, or a name of `model_names`; a path that exists wins.
    """
    path = named(folder)
    is_run = not (path / _CONFIG).exists() and (path / "model" / _CONFIG).is_file()
    return path / "model" if is_run else path


@functools.cache
def _tell_shadow(path: Path) -> None:
    log.warning("%s is the folder of this name here, not the model that comes with unmask", path)


def model_for(rows: Iterable[str]) -> str | None:
    """Name of the bundled model that was trained on text in the script of most rows; None for a script of no model.

    A script is not yet a language: German and Polish are taken for English here. Japanese, which has Han characters
    too, is not taken for Chinese.

    Args:
        rows: some of the user's, each with all of its texts in one; those without letters do not count.
    """
    rows = list(rows)
    votes = Counter(_model_for_one(row, letters) for row in rows if (letters := sum(map(str.isalpha, row))))
    name = votes.most_common(1)[0][0] if votes else None
    text = "".join(rows)
    is_japanese = len(_KANA.findall(text)) >= _LEAST_KANA * max(1, len(_HAN.findall(text)))
    return None if name == CHINESE and is_japanese else name


def _model_for_one(row: str, letters: int) -> str | None:
    if len(_HAN.findall(row)) >= _LEAST_HAN * letters:
        return CHINESE
    return ENGLISH if len(_LATIN.findall(row)) >= _LEAST_LATIN * letters else None
