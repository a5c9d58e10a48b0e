"""Text to ids and offsets and back, for the three families of published RoBERTa tokenizers.

User text is literal: `<s>`, `<mask>` or `[SEP]` inside a text never become control tokens. Where the ids of the
special tokens stand is decided here, by `Tokenizer.assemble`, and nowhere else.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tokenizers

from unmask import storage
from unmask.bundled import named
from unmask.errors import ArtefactError, DataError, UsageError
from unmask.tokenizer import formats

DEFAULT_MAX_LENGTH = 512
_SURROGATE = re.compile("[\ud800-\udfff]")
# White space as Unicode has it; Python counts the separators 0x1C to 0x1F too.
_SPACES = np.array([code for code in range(0x20, 0x3001) if chr(code).isspace()] + [*range(9, 14)], np.uint32)


@dataclass(frozen=True, slots=True)
class Pieces:
    """One text as pieces, without special tokens.

    Attributes:
        ids: (n,) int32.
        offsets: (n, 2) int32, characters [start, end) of the original string; a piece's leading space is left out.
        word_starts: (n,) bool, True where a pre-token begins (WordPiece: at a piece without `##`).
    """

    ids: np.ndarray
    offsets: np.ndarray
    word_starts: np.ndarray


@dataclass(frozen=True, slots=True)
class Sequence:
    """One or two texts with special tokens, as the model takes them.

    Attributes:
        input_ids: (n,) int32.
        token_type_ids: (n,) int8; 1 in BERT's second text and its separator, else 0.
        offsets: (n, 2) int32; (0, 0) at special tokens.
        sequence_ids: (n,) int8; -1 at special tokens, 0 in the first text, 1 in the second.
        num_truncated: number of pieces that were cut away.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    sequence_ids: np.ndarray
    num_truncated: int


class Tokenizer:
    """A tokenizer of one of three families: "roberta", "xlm-roberta" or "bert".

    The family names the template: `<s> A </s></s> B </s>`, or `[CLS] A [SEP] B [SEP]` with token types for "bert".

    Args:
        spec: content of a `tokenizer.json`.
        config: content of a `tokenizer_config.json`, for the names of the special tokens.
        place: where they come from, for error messages.

    Attributes:
        family: "roberta" (byte-level BPE), "xlm-roberta" (Unigram) or "bert" (WordPiece).
        vocab_size: highest id + 1.
        cls_id: id of `<s>` or `[CLS]`; likewise sep_id, pad_id, unk_id, mask_id.
        special_ids: ids of all special tokens, sorted int32.
        mask_token: "<mask>" or "[MASK]".
        fingerprint: 32 hexadecimal digits; equal fingerprints mean equal ids for every text.
    """

    def __init__(self, spec: formats.Spec, config: dict[str, Any] | None = None, *, place: object = None) -> None:
        config = config or {}
        where = Path(str(place))
        formats.check(spec, where)
        vocab = formats.vocabulary(spec)
        names = formats.special_names(vocab, config, where)
        self.family = _family(spec, names)
        self.cls_id, self.sep_id, self.pad_id, self.unk_id, self.mask_id = (
            vocab[names[role]] for role in formats.ROLES
        )
        self.mask_token = names["mask"]
        self.vocab_size = max(vocab.values()) + 1
        formats.add_template(spec, names, doubled=self.family != "bert")
        special = set(names.values())
        special |= {token["content"] for token in spec.get("added_tokens") or [] if token.get("special")}
        self.special_ids = np.array(sorted({vocab[token] for token in special}), np.int32)
        self.fingerprint = formats.fingerprint(spec)
        self._names = names
        self._max_length = _max_length(config)
        self._spec_text = json.dumps(spec, ensure_ascii=False)
        self._engine, self._mask_engine = _engines(spec, vocab, special, names["mask"], place)
        self._starts_word = _word_start_table(spec, vocab)
        self._trims_by_hand = spec["model"]["type"] == "Unigram"

    @functools.cached_property
    def ordinary_ids(self) -> np.ndarray:
        """Ids of all tokens that are not special, sorted int32."""
        return np.setdiff1d(np.arange(self.vocab_size, dtype=np.int32), self.special_ids)

    @functools.cached_property
    def text_ids(self) -> np.ndarray:
        """Ids that can stand in a text by themselves, sorted int64: no special tokens, no parts of a character."""
        whole = [index for index in self.ordinary_ids.tolist() if "\ufffd" not in self.decode([index])]
        return np.array(whole, np.int64)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.description()

    def description(self) -> tuple[formats.Spec, dict[str, Any]]:
        """What `Tokenizer(*...)` makes the same tokenizer of: a copy of its `tokenizer.json`, and its configuration."""
        config = {f"{role}_token": name for role, name in self._names.items()}
        return json.loads(self._spec_text), {**config, "model_max_length": self._max_length}

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Open a tokenizer folder, ours or a published one of RoBERTa, XLM-R or BERT form, or that of a bundled model.

        Raises:
            ArtefactError: the folder has no tokenizer, or a corrupt one, or one of another kind.
        """
        folder = named(folder)
        spec, config = formats.read_folder(folder)
        return cls(spec, config, place=folder)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`; transformers' AutoTokenizer gives the same ids."""
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_text(folder / formats.TOKENIZER, self._spec_text)
        config = formats.hf_config(
            json.loads(self._spec_text), self._names, is_bert=self.family == "bert", max_length=self._max_length
        )
        storage.write_text(folder / formats.CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def encode(self, texts: list[str]) -> list[Pieces]:
        """Cut texts into pieces with offsets; strings of special tokens inside a text stay literal.

        Raises:
            DataError: a text holds half of a surrogate pair, which is no character.
        """
        return [
            self._pieces(text, found)
            for text, found in zip(texts, self._run(self._engine.encode_batch, texts), strict=True)
        ]

    def encode_ids(self, texts: list[str]) -> list[np.ndarray]:
        """Cut texts into pieces and give their ids only, (n,) int32 for each text: the fast way without offsets.

        Raises:
            DataError: a text holds half of a surrogate pair.
        """
        return [np.array(found.ids, np.int32) for found in self._run(self._engine.encode_batch_fast, texts)]

    def words(self, text: str) -> list[str]:
        """Cut a text into pre-tokens, in the alphabet of the vocabulary: no piece of the text ever spans two of them.

        Raises:
            DataError: the text holds half of a surrogate pair.
        """
        check_text(text, "text")
        normalizer, splitter = self._engine.normalizer, self._engine.pre_tokenizer
        plain = text if normalizer is None else normalizer.normalize_str(text)
        return [plain] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(plain)]

    def word_ids(self, word: str) -> list[int]:
        """Ids of the pieces of one pre-token, as `words` gives it."""
        return [token.id for token in self._engine.model.tokenize(word)]

    def encode_masked(self, text: str) -> Pieces:
        """Cut a text in which each `mask_token` string means the mask; all other special strings stay literal.

        RoBERTa's and XLM-R's `<mask>` eats the white space before it, as published; its offsets are those of the
        string `<mask>` itself.

        Raises:
            DataError: the text holds half of a surrogate pair.
        """
        pieces = self._pieces(text, self._run(self._mask_engine.encode_batch, [text])[0])
        for index in np.flatnonzero(pieces.ids == self.mask_id):
            start, end = pieces.offsets[index]
            at = text.find(self.mask_token, start, end)
            if at >= 0:
                pieces.offsets[index] = at, at + len(self.mask_token)
        return pieces

    def num_special(self, is_pair: bool) -> int:
        """Number of special tokens that `assemble` adds to one text or to a pair."""
        return 2 if not is_pair else 3 if self.family == "bert" else 4

    def assemble(self, first: Pieces, second: Pieces | None = None, *, max_length: int) -> Sequence:
        """Put special tokens around one or two texts; the longer text is cut first, at its end.

        Args:
            first: the first or only text.
            second: the second text of a pair.
            max_length: the most tokens of the result, special tokens included.

        Raises:
            UsageError: `max_length` has no room for the special tokens.
        """
        room = max_length - self.num_special(second is not None)
        if room < 0:
            raise UsageError(
                "max-length",
                "max_length has no room for the special tokens",
                value=max_length,
                expected=f"at least {max_length - room}",
            )
        total = len(first.ids) + (0 if second is None else len(second.ids))
        if second is None:
            kept = [(first, min(len(first.ids), room), 0)]
        else:
            n_first, n_second = _longest_first(len(first.ids), len(second.ids), room)
            kept = [(first, n_first, 0), (second, n_second, 1)]
        parts = [self._special(self.cls_id, 0)]
        for pieces, count, index in kept:
            kind = index if self.family == "bert" else 0
            if index and self.family != "bert":
                parts.append(self._special(self.sep_id, 0))
            ids = pieces.ids[:count]
            types, owners = np.full(count, kind, np.int8), np.full(count, index, np.int8)
            parts += [(ids, types, pieces.offsets[:count], owners), self._special(self.sep_id, kind)]
        ids, types, offsets, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Sequence(ids, types, offsets, owners, total - sum(count for _, count, _ in kept))

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text; special tokens are left out."""
        text: str = self._engine.decode([int(id) for id in ids], skip_special_tokens=True)
        return text

    def ids(self) -> list[int]:
        """All ids that have a piece, ascending."""
        return sorted(self._engine.get_vocab(with_added_tokens=True).values())

    def piece(self, id: int) -> str:
        r"""Readable text of one id, such as " the"; bytes that are no whole character are shown as `\xe4`.

        Raises:
            UsageError: there is no such id.
        """
        token = self._engine.id_to_token(int(id)) if 0 <= id < self.vocab_size else None
        if token is None:
            raise UsageError("unknown-id", "no piece has this id", value=id, expected=f"0 to {self.vocab_size - 1}")
        if id in self.special_ids:
            return str(token)
        if self.family == "roberta" and all(char in _BYTES for char in token):
            return bytes(_BYTES[char] for char in token).decode("utf-8", "backslashreplace")
        return str(token.replace("\u2581", " ") if self._trims_by_hand else token)

    def _pieces(self, text: str, found: tokenizers.Encoding) -> Pieces:
        ids = np.array(found.ids, np.int32)
        flat = chain.from_iterable(found.offsets)
        offsets = np.fromiter(flat, np.int32, 2 * len(ids)).reshape(-1, 2)
        if self._trims_by_hand:
            _trim(text, offsets)
        if self._starts_word is not None:
            return Pieces(ids, offsets, self._starts_word[ids])
        words = np.array(found.word_ids, np.int32)
        return Pieces(ids, offsets, np.diff(words, prepend=-1) != 0)

    def _run(self, encode: Callable[..., list[tokenizers.Encoding]], texts: list[str]) -> list[tokenizers.Encoding]:
        try:
            return encode(texts, add_special_tokens=False)
        except TypeError:
            for index, text in enumerate(texts):
                check_text(text, f"text {index + 1}")
            raise

    def _special(self, id: int, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        one = np.array([id], np.int32)
        return one, np.array([kind], np.int8), np.zeros((1, 2), np.int32), np.array([-1], np.int8)


def check_text(text: str, place: object) -> None:
    """Refuse a text with half of a surrogate pair: it cannot be written as UTF-8 and no tokenizer takes it.

    Raises:
        DataError: with the position of the first one.
    """
    found = _SURROGATE.search(text)
    if found:
        raise DataError(
            "lone-surrogate",
            "the text holds half of a surrogate pair, which is no character",
            place=f"{place}, character {found.start() + 1}",
            value=ascii(found.group()),
            remedy="the text was cut or decoded wrongly; read it again, or drop these with "
            'text.encode("utf-8", "ignore").decode()',
        )


class _CorruptIsAnError:
    """Name the folder when the tokenizers library refuses a file: it raises plain Exception, which is no one else's."""

    def __init__(self, place: object) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is Exception or (kind is not None and kind.__name__ in ("PanicException", "UnicodeEncodeError")):
            raise ArtefactError(
                "bad-tokenizer",
                f"the tokenizer cannot be read: {error}",
                place=self.place,
                remedy="copy or make the folder again",
            ) from None


_BYTES = formats.byte_alphabet()


def _engines(
    spec: formats.Spec, vocab: dict[str, int], special: set[str], mask: str, place: object
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """Make the engine that takes every string literally, and the one that finds the mask token."""
    with _CorruptIsAnError(place):
        engine = tokenizers.Tokenizer.from_str(json.dumps(_literal(spec, vocab, special), ensure_ascii=False))
        engine.encode_special_tokens = True
        if _finds_special(engine, special, {vocab[token] for token in special}):
            _split_specials(engine, special)
        masked = tokenizers.Tokenizer(engine.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            if getattr(engine, part) is not None:
                setattr(masked, part, getattr(engine, part))
        for _, token in sorted(engine.get_added_tokens_decoder().items()):
            token.special = token.content != mask
            masked.add_tokens([token])
        masked.encode_special_tokens = True
    return engine, masked


def _literal(spec: formats.Spec, vocab: dict[str, int], special: set[str]) -> formats.Spec:
    """The published description without padding, truncation, dropout and template, and with all specials flagged."""
    added = {token["content"]: token for token in spec.get("added_tokens") or []}
    for token in special:
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added[token] = {**plain, **added.get(token, {}), "id": vocab[token], "content": token, "special": True}
    model = {**spec["model"], "dropout": None} if spec["model"]["type"] == "BPE" else spec["model"]
    trim = None
    if spec["model"]["type"] == "BPE":
        prefix = any(
            part.get("add_prefix_space") for part in formats.components(spec.get("pre_tokenizer"), "ByteLevel")
        )
        trim = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}
    return {
        **spec,
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added.values(), key=lambda token: token["id"]),
        "post_processor": trim,
        "decoder": spec.get("decoder") or formats.DECODERS[spec["model"]["type"]],
        "model": model,
    }


def _finds_special(engine: tokenizers.Tokenizer, special: set[str], ids: set[int]) -> bool:
    """Whether the model itself makes a special id out of a literal string, as a Unigram vocabulary with `<s>` does."""
    probes = [text for token in sorted(special) for text in (token, f"a{token}", f"a {token} b", token * 2)]
    unknown = {id for found in engine.encode_batch(["\U0010fffd"], add_special_tokens=False) for id in found.ids}
    forbidden = ids - unknown
    return any(forbidden & set(found.ids) for found in engine.encode_batch(probes, add_special_tokens=False))


def _split_specials(engine: tokenizers.Tokenizer, special: set[str]) -> None:
    """Cut each literal special string in two after its first character, so that no piece can span it."""
    rest = "|".join(f"(?<={re.escape(token[0])}){re.escape(token[1:])}" for token in sorted(special) if token[1:])
    guard = tokenizers.pre_tokenizers.Split(tokenizers.Regex(rest), "isolated")
    before = [] if engine.pre_tokenizer is None else [engine.pre_tokenizer]
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([*before, guard])


def _family(spec: formats.Spec, names: dict[str, str]) -> str:
    if names["cls"] == formats.BERT_SPECIALS["cls"]:
        return "bert"
    return "xlm-roberta" if spec["model"]["type"] == "Unigram" else "roberta"


def _max_length(config: dict[str, Any]) -> int:
    named = config.get("model_max_length")
    return named if isinstance(named, int) and 0 < named < 1_000_000 else DEFAULT_MAX_LENGTH


def _word_start_table(spec: formats.Spec, vocab: dict[str, int]) -> np.ndarray | None:
    """For WordPiece, whether each id begins a word; None for the families where the pre-tokens decide."""
    if spec["model"]["type"] != "WordPiece":
        return None
    prefix = spec["model"].get("continuing_subword_prefix") or "##"
    table = np.ones(max(vocab.values()) + 1, bool)
    table[[id for token, id in vocab.items() if token.startswith(prefix) and token != prefix]] = False
    return table


def _trim(text: str, offsets: np.ndarray) -> None:
    """Move each start past white space, in place; SentencePiece counts the space before a word to its piece."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    while True:
        inside = np.flatnonzero(offsets[:, 0] < offsets[:, 1])
        moved = inside[np.isin(codes[offsets[inside, 0]], _SPACES)]
        if not len(moved):
            return
        offsets[moved, 0] += 1


def _longest_first(n_first: int, n_second: int, room: int) -> tuple[int, int]:
    """Lengths after cutting the longer of two texts until both fit, as transformers does."""
    if n_first + n_second <= room:
        return n_first, n_second
    short = min(n_first, n_second, room // 2)
    return (short, room - short) if n_first <= n_second else (room - short, short)
