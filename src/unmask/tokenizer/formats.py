"""Published tokenizer folders in, one description out: the content of `tokenizer.json` as plain JSON values.

Three layouts are read: `tokenizer.json`; `vocab.json` with `merges.txt` (RoBERTa); `vocab.txt` (BERT, and the Chinese
"RoBERTa" published in BERT form). Reading is data only: each component must be on the allow-list below, and nothing
that a folder names is ever imported or run.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from unmask import storage
from unmask.errors import ArtefactError

Spec = dict[str, Any]
"""Content of a `tokenizer.json`."""

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
ROLES = ("cls", "sep", "pad", "unk", "mask")
ROBERTA_SPECIALS = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
BERT_SPECIALS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}

_ALLOWED = {
    "model": {"BPE", "Unigram", "WordPiece"},
    "normalizer": {"BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"}
    | {"Prepend", "Replace", "Sequence", "Strip", "StripAccents"},
    "pre_tokenizer": {"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation"}
    | {"Sequence", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"},
    "post_processor": {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"},
    "decoder": {"ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece"},
}
_NESTED = ("normalizers", "pretokenizers", "processors", "decoders")
DECODERS: dict[str, Spec] = {
    "BPE": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "WordPiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "Unigram": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
}
"""What turns pieces back into text, for files that do not say."""

_TEMPLATES = {"RobertaProcessing", "BertProcessing", "TemplateProcessing"}
_BERT_FLAGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_HAN = {"type": "Split", "pattern": {"Regex": r"\p{Han}"}, "behavior": "Isolated", "invert": False}


def read_folder(folder: Path) -> tuple[Spec, dict[str, Any]]:
    """Read a tokenizer folder of any layout.

    Args:
        folder: a folder with `tokenizer.json`, or `vocab.json` and `merges.txt`, or `vocab.txt`.

    Returns:
        The description and the content of `tokenizer_config.json` (empty when there is none).

    Raises:
        ArtefactError: nothing to read, not JSON, or a component that is not on the allow-list.
    """
    if not folder.is_dir():
        raise ArtefactError("no-tokenizer", "there is no such tokenizer folder", place=folder)
    config = _read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if (folder / TOKENIZER).is_file():
        spec = _read_object(folder / TOKENIZER)
    elif (folder / "vocab.json").is_file():
        vocab, merges = _read_object(folder / "vocab.json"), _read_merges(folder / "merges.txt")
        spec = bpe_spec(vocab, merges, add_prefix_space=bool(config.get("add_prefix_space", False)))
    elif (folder / "vocab.txt").is_file():
        spec = wordpiece_spec(_read_vocab_txt(folder / "vocab.txt"))
    else:
        raise _nothing_to_read(folder)
    check(spec, folder / TOKENIZER)
    _override(spec, config)
    return spec, config


def bpe_spec(
    vocab: dict[str, int], merges: list[list[str]], *, add_prefix_space: bool = False, isolate_han: bool = False
) -> Spec:
    """Describe a byte-level BPE tokenizer in RoBERTa's form.

    Args:
        vocab: piece -> id; a special token that is missing is appended, as for RoBERTa's first files without `<mask>`.
        merges: pairs of pieces, best first.
        add_prefix_space: put a space before a text that begins without one.
        isolate_han: make each Han character a pre-token, so that no piece spans two of them.
    """
    vocab = dict(vocab)
    for token in ROBERTA_SPECIALS.values():
        vocab.setdefault(token, max(vocab.values(), default=-1) + 1)
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
    names = ROBERTA_SPECIALS
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocab, names.values(), mask=names["mask"]),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_HAN, byte_level]} if isolate_han else byte_level,
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [names["sep"], vocab[names["sep"]]],
            "cls": [names["cls"], vocab[names["cls"]]],
            "trim_offsets": True,
            "add_prefix_space": add_prefix_space,
        },
        "decoder": DECODERS["BPE"],
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def wordpiece_spec(vocab: dict[str, int]) -> Spec:
    """Describe a WordPiece tokenizer in BERT's form; case is folded, as BERT's published default is."""
    present = [token for token in BERT_SPECIALS.values() if token in vocab]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocab, present),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": DECODERS["WordPiece"],
        "model": {
            "type": "WordPiece",
            "unk_token": BERT_SPECIALS["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def check(spec: Spec, place: Path) -> None:
    """Refuse a description that is not one of the three kinds, or that has a component off the allow-list.

    A missing `model.type`, as in files of 2020, is filled in.

    Raises:
        ArtefactError: with the component's name.
    """
    model = spec.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
        raise ArtefactError("bad-tokenizer", "the file has no model with a vocabulary", place=place)
    for token in spec.get("added_tokens") or []:
        if not (isinstance(token, dict) and isinstance(token.get("id"), int) and isinstance(token.get("content"), str)):
            raise ArtefactError("bad-tokenizer", "an added token has no id or no content", place=place, value=token)
    if "type" not in model:
        model["type"] = "BPE" if "merges" in model else "Unigram" if isinstance(model["vocab"], list) else "WordPiece"
    for part, allowed in _ALLOWED.items():
        for kind in component_types(spec.get(part)):
            if kind not in allowed:
                raise ArtefactError(
                    "unknown-component",
                    f"the {part} of this tokenizer is of a kind that no RoBERTa uses",
                    place=place,
                    value=kind,
                    expected=", ".join(sorted(allowed)),
                )
    is_byte_level = "ByteLevel" in component_types(spec.get("pre_tokenizer")) + component_types(spec.get("normalizer"))
    if model["type"] == "BPE" and not is_byte_level:
        raise ArtefactError(
            "not-byte-level", "BPE tokenizers are read in byte-level form only", place=place, expected="ByteLevel"
        )


def component_types(part: object) -> list[str]:
    """Names of the kinds of a component and of all the components inside it."""
    if part is None:
        return []
    if not isinstance(part, dict):
        return [repr(part)]
    inner = [kind for key in _NESTED for item in part.get(key) or () for kind in component_types(item)]
    return [str(part.get("type")), *inner]


def components(part: Spec | None, kind: str) -> list[Spec]:
    """All components of one kind within a part, outermost first; changing them changes the part."""
    if part is None:
        return []
    inner = [found for key in _NESTED for item in part.get(key) or () for found in components(item, kind)]
    return [part, *inner] if part.get("type") == kind else inner


def vocabulary(spec: Spec) -> dict[str, int]:
    """All pieces of the model and all added tokens: piece -> id."""
    pieces = spec["model"]["vocab"]
    vocab = {piece[0]: id for id, piece in enumerate(pieces)} if isinstance(pieces, list) else dict(pieces)
    return vocab | {token["content"]: token["id"] for token in spec.get("added_tokens") or []}


def add_template(spec: Spec, names: dict[str, str], *, doubled: bool) -> None:
    """Write the special tokens' places into a description that has none, so that other libraries add them too.

    Args:
        spec: changed in place.
        names: token of each role.
        doubled: two separators between the texts of a pair and no token types, as RoBERTa has it.
    """
    if _TEMPLATES & set(component_types(spec.get("post_processor"))):
        return
    vocab = vocabulary(spec)
    second = 0 if doubled else 1
    cls, sep = ({"SpecialToken": {"id": names[role], "type_id": 0}} for role in ("cls", "sep"))
    single = [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep]
    last = [{"Sequence": {"id": "B", "type_id": second}}, {"SpecialToken": {"id": names["sep"], "type_id": second}}]
    used = (names["cls"], names["sep"])
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *([sep] if doubled else []), *last],
        "special_tokens": {token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in used},
    }


def hf_config(spec: Spec, names: dict[str, str], *, is_bert: bool, max_length: int) -> dict[str, Any]:
    """Compose a `tokenizer_config.json` with which transformers' AutoTokenizer gives the same ids.

    It names the general class, which runs tokenizer.json as it is: the classes of the families build their own
    components around the vocabulary and would drop, for one, the isolation of Han characters.
    """
    tokens = {f"{role}_token": names[role] for role in ROLES}
    if not is_bert:
        tokens |= {"bos_token": names["cls"], "eos_token": names["sep"]}
    flags: dict[str, Any] = {}
    for bert in components(spec.get("normalizer"), "BertNormalizer"):
        flags |= {old: bert.get(new) for old, new in _BERT_FLAGS.items()}
    for byte_level in components(spec.get("pre_tokenizer"), "ByteLevel"):
        flags["add_prefix_space"] = bool(byte_level.get("add_prefix_space"))
    types = ["token_type_ids"] if is_bert else []
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **tokens,
        **flags,
    }


def special_names(vocab: dict[str, int], config: dict[str, Any], place: Path) -> dict[str, str]:
    """Find the token of each role (cls, sep, pad, unk, mask): what the config names, else the family's usual one.

    Raises:
        ArtefactError: a role has no token in the vocabulary.
    """
    is_bert = BERT_SPECIALS["cls"] in vocab and BERT_SPECIALS["sep"] in vocab
    names = dict(BERT_SPECIALS if is_bert else ROBERTA_SPECIALS)
    for role in ROLES:
        named = config.get(f"{role}_token")
        content = named.get("content") if isinstance(named, dict) else named
        if isinstance(content, str) and content in vocab:
            names[role] = content
    missing = [names[role] for role in ROLES if names[role] not in vocab]
    if missing:
        raise ArtefactError(
            "no-special-token",
            f"the vocabulary has no {', '.join(missing)}",
            place=place,
            expected="the five special tokens of RoBERTa or of BERT, or their names in tokenizer_config.json",
        )
    return names


def fingerprint(spec: Spec) -> str:
    """Hash what decides the ids: vocabulary, merges, normalizer, pre-tokenizer and added tokens.

    Two files that differ only in layout, age or whitespace have the same fingerprint, whichever library wrote them.
    """
    model = {key: value for key, value in spec["model"].items() if key != "dropout" and not _is_off(value)}
    if "merges" in model:
        model["merges"] = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    tokens = [
        {key: value for key, value in token.items() if not _is_off(value) and key not in ("normalized", "special")}
        for token in sorted(spec.get("added_tokens") or [], key=lambda token: token["id"])
    ]
    parts = [model, tokens, _plain(spec.get("normalizer")), _plain(spec.get("pre_tokenizer"))]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode("ascii"))


def byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary, as GPT-2 chose them: character -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _added(vocab: dict[str, int], tokens: Iterable[str], mask: str | None = None) -> list[Spec]:
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    found = sorted((vocab[token], token) for token in tokens)
    return [{"id": id, "content": token, "lstrip": token == mask, **flags} for id, token in found]


def _override(spec: Spec, config: dict[str, Any]) -> None:
    """Let an explicit setting of tokenizer_config.json win over tokenizer.json, as it does in transformers."""
    for bert in components(spec.get("normalizer"), "BertNormalizer"):
        bert.update({_BERT_FLAGS[name]: value for name, value in config.items() if name in _BERT_FLAGS})
    if isinstance(config.get("add_prefix_space"), bool) and spec["model"]["type"] == "BPE":
        for part in ("pre_tokenizer", "post_processor"):
            for kind in ("ByteLevel", "RobertaProcessing"):
                for found in components(spec.get(part), kind):
                    found["add_prefix_space"] = config["add_prefix_space"]


def _is_off(value: object) -> bool:
    return value is None or value is False or value == ""


def _plain(part: object) -> object:
    """A component without the fields that do not change ids, and with the default that old files leave out."""
    if isinstance(part, list):
        return [_plain(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _plain(value) for key, value in part.items() if key != "trim_offsets" and value is not None}
    return {"use_regex": True, **kept} if part.get("type") == "ByteLevel" else kept


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = storage.read_json(path)
    except RecursionError:
        raise ArtefactError("bad-json", "the file is nested too deeply", place=path) from None
    if not isinstance(content, dict):
        raise ArtefactError("bad-json", "the file holds no JSON object", place=path)
    return content


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise ArtefactError("missing-file", "the file does not exist", place=path) from None
    except UnicodeDecodeError as error:
        raise ArtefactError("bad-tokenizer", f"the file is not UTF-8: {error}", place=path) from None


def _read_merges(path: Path) -> list[list[str]]:
    merges = []
    for number, line in enumerate(_read_lines(path), 1):
        line = line.rstrip("\r")
        if not line or line.startswith("#version"):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ArtefactError(
                "bad-merge", "a merge is two pieces with a space between", place=f"{path}:{number}", value=line
            )
        merges.append(pair)
    return merges


def _read_vocab_txt(path: Path) -> dict[str, int]:
    lines = [line.rstrip("\r") for line in _read_lines(path)]
    return {token: id for id, token in enumerate(lines) if token}


def _nothing_to_read(folder: Path) -> ArtefactError:
    if list(folder.glob("*.model")):
        return ArtefactError(
            "sentencepiece-only",
            "this folder has a SentencePiece model but no tokenizer.json",
            place=folder,
            expected=TOKENIZER,
            remedy="convert it once: transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder) "
            "(with `pip install sentencepiece`) writes tokenizer.json beside it",
        )
    return ArtefactError(
        "no-tokenizer",
        "this folder holds no tokenizer",
        place=folder,
        expected="tokenizer.json, or vocab.json with merges.txt, or vocab.txt",
    )
