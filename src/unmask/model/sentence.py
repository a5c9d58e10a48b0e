"""The files of sentence-transformers around an encoder: how hidden states become the vector of a text."""

from pathlib import Path
from typing import Any

from unmask import storage
from unmask.errors import ArtefactError

MODULES, POOLING, LIMITS = "modules.json", "1_Pooling", "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
_TYPES = "sentence_transformers.models."
_MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
_NO_LIMIT = 1_000_000  # tokenizers of old folders say 10^30
_OTHER_MODES = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def sentence_files(*, width: int, max_length: int, pooling: str, normalize: bool) -> dict[str, Any]:
    """Files that make a folder one of sentence-transformers, path to JSON.

    Args:
        width: numbers of a vector.
        max_length: longest input in tokens, special ones included.
        pooling: `mean` of all tokens, or `cls`, the first one.
        normalize: give vectors of length 1.
    """
    modules = [("Transformer", ""), ("Pooling", POOLING), *([("Normalize", "2_Normalize")] if normalize else [])]
    return {
        MODULES: [
            {"idx": at, "name": str(at), "path": path, "type": _TYPES + name} for at, (name, path) in enumerate(modules)
        ],
        f"{POOLING}/config.json": {"word_embedding_dimension": width}
        | {flag: mode == pooling for mode, flag in _MODES.items()}
        | {f"pooling_mode_{mode}": False for mode in _OTHER_MODES},
        LIMITS: {"max_seq_length": max_length, "do_lower_case": False},
    }


def read_sentence_files(folder: Path) -> dict[str, Any] | None:
    """Settings of the task `embedding` in a folder of sentence-transformers; `None` for any other folder.

    Texts that are longer than its limit are cut off, as that library does.

    Raises:
        ArtefactError: its vectors are made by other parts than an encoder, mean or first token, and normalization, or
            by words before each text.
    """
    if not (folder / MODULES).is_file():
        return None
    try:
        listed = [(one["type"].rpartition(".")[2], one["path"]) for one in storage.read_json(folder / MODULES)]
    except (TypeError, KeyError, AttributeError):
        raise _unknown(folder / MODULES, "the list of its parts is not one") from None
    kinds = [kind for kind, _ in listed]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise _unknown(folder / MODULES, f"it has the parts {', '.join(kinds)}")
    if listed[0][1] not in ("", "."):
        raise _unknown(folder / MODULES, f"its network lies in {listed[0][1]}, not beside this file")
    if prompt := _object(folder / PROMPTS).get("default_prompt_name"):
        raise _unknown(folder / PROMPTS, f"it puts the prompt '{prompt}' before each text")
    # Newer folders leave the limit to the tokenizer; in older ones the file's name has the kind of network in it.
    limits: dict[str, Any] = {"max_seq_length": _object(folder / "tokenizer_config.json").get("model_max_length")}
    for place in sorted(folder.glob("sentence_*_config.json")):
        limits |= _object(place)
    if limits.get("do_lower_case"):
        raise _unknown(folder, "it lower-cases texts outside the tokenizer")
    settings = {"pooling": _mode(folder / listed[1][1] / "config.json"), "normalize": "Normalize" in kinds}
    longest = limits["max_seq_length"]
    is_limit = isinstance(longest, int) and 0 < longest < _NO_LIMIT
    return settings | {"long_texts": "cut"} | ({"max_length": longest} if is_limit else {})


def _mode(place: Path) -> str:
    content = _object(place)
    named = content.get("pooling_mode")  # of newer files; a list where vectors are put in a row
    if named is None:
        flags = [name for name, value in content.items() if name.startswith("pooling_mode_") and value is True]
        named = [mode for mode, flag in _MODES.items() if flag in flags] if set(flags) <= {*_MODES.values()} else flags
    modes = [named] if isinstance(named, str) else named
    if modes not in (["cls"], ["mean"]):
        raise _unknown(place, f"its pooling is {', '.join(map(str, modes or ())) or 'not named'}")
    return str(modes[0])


def _object(place: Path) -> dict[str, Any]:
    """Content of a file that need not be there."""
    content = storage.read_json(place) if place.is_file() else {}
    if not isinstance(content, dict):
        raise _unknown(place, "this file of it is no object")
    return content


def _unknown(place: Path, reason: str) -> ArtefactError:
    return ArtefactError(
        "other-vectors",
        f"the folder is one of sentence-transformers, and {reason}",
        place=place,
        expected="a Transformer, a Pooling (mean or cls), and perhaps a Normalize",
        remedy="compute its vectors with sentence-transformers; its encoder can be fine-tuned for any other task here",
    )
