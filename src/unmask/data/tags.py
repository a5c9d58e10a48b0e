"""Tags of words and the chunks that they mean: IOB1, IOB2, BIOES (and BILOU, BMES), bare labels, one tag a word."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from unmask.errors import DataError

Scheme = Literal["bio", "bioes", "io", "word"]
"""How chunks are written as tags: B- and I-; single ones and ends too; labels alone with O; one tag for each word."""

OUTSIDE = "O"
UNNAMED = "CHUNK"
"""The label of tags that are only `B`, `I` and `O`."""
_TAG = re.compile(r"([BIESLUM])(?:[-_](.+))?")
_ENDS = frozenset("ESLU")
_STARTS = frozenset("BSU")
_PREFIXES: dict[str, tuple[str, ...]] = {"bio": ("B", "I"), "bioes": ("B", "I", "E", "S"), "io": (), "word": ()}


class Chunk(NamedTuple):
    """A labelled run of words.

    Attributes:
        first: number of its first word.
        end: number of the word behind it.
        label: what it is.
        is_stray: whether it began with a tag that only goes on, such as I- after O.
    """

    first: int
    end: int
    label: str
    is_stray: bool = False


def is_chunk_tag(tag: str) -> bool:
    """Whether a tag is `O`, or B-, I-, E-, S-, L-, U- or M- before a label (or alone)."""
    return tag == OUTSIDE or _TAG.fullmatch(tag) is not None


def chunks_of(tags: Sequence[str], *, is_bare: bool = False) -> list[Chunk]:
    """The chunks that tags mean, whatever their scheme, as conlleval reads them: a chunk begins at B- and S-, and at
    any other tag that does not go on with the chunk before it.

    Args:
        tags: one for each word.
        is_bare: whether all tags but `O` are labels without prefix; a run of one label is then a chunk.
    """
    found: list[Chunk] = []
    before, label_before = "", ""
    for at, tag in enumerate(tags):
        prefix, label = ("I", tag) if is_bare else _parts(tag)
        if tag == OUTSIDE:
            before = ""
            continue
        goes_on = before not in ("", *_ENDS) and label == label_before
        if goes_on and prefix not in _STARTS:
            found[-1] = found[-1]._replace(end=at + 1)
        else:
            found.append(Chunk(at, at + 1, label, is_stray=prefix not in _STARTS))
        before, label_before = prefix, label
    return found


def is_iob1(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether chunks begin with I- as a rule, and with B- only behind one of their label (Ramshaw and Marcus 1995)."""
    with_i = with_b = 0
    for tags in sentences:
        before = OUTSIDE
        for tag in tags:
            is_new = before == OUTSIDE or _parts(before)[1] != _parts(tag)[1]
            if tag != OUTSIDE and is_new:
                with_i += tag[0] == "I"
                with_b += tag[0] == "B"
            before = tag
    return with_i > with_b


def scheme_of(labels: Sequence[str]) -> Scheme:
    """The scheme that the names of a model's classes tell."""
    tags = [tag for tag in labels if tag != OUTSIDE]
    if tags and all(map(is_chunk_tag, tags)):
        return "bioes" if any(tag[0] in _ENDS for tag in tags) else "bio"
    return "io" if OUTSIDE in labels else "word"


def tags_for(names: Sequence[str], scheme: Scheme) -> list[str]:
    """All tags of a scheme for labels, O first."""
    prefixes = _PREFIXES[scheme]
    tags = [f"{prefix}-{name}" for name in names for prefix in prefixes] if prefixes else list(names)
    return tags if scheme == "word" else [OUTSIDE, *tags]


class TagSet:
    """The tags of a model, in the order of its logits, as a way from chunks to their numbers and back.

    Args:
        tags: names of the classes.
        scheme: how chunks are written in them.

    Attributes:
        names: labels of the chunks, sorted.
    """

    def __init__(self, tags: Sequence[str], scheme: Scheme) -> None:
        self.tags = list(tags)
        self.scheme = scheme
        self._ids = {tag: index for index, tag in enumerate(self.tags)}
        self._labels = [self._label(tag) for tag in self.tags]
        self.names = sorted({label for label in self._labels if label is not None})

    def ids_of(self, chunks: Iterable[Chunk], num_words: int) -> list[int | None]:
        """Number of each word's tag; `None` where one tag a word is asked for and the word has none."""
        ids: list[int | None] = [self._ids.get(OUTSIDE) if self.scheme != "word" else None] * num_words
        for chunk in chunks:
            for at in range(chunk.first, chunk.end):
                ids[at] = self._id(chunk.label, at == chunk.first, at == chunk.end - 1)
        return ids

    def chunks_of(self, ids: Sequence[int]) -> list[Chunk]:
        """The chunks that a row of tags means."""
        tags = [self.tags[id] for id in ids]
        if self.scheme == "word":
            return [Chunk(at, at + 1, tag) for at, tag in enumerate(tags)]
        return chunks_of(tags, is_bare=self.scheme == "io")

    def columns(self, label: str) -> list[int]:
        """Numbers of the tags that belong to a label."""
        return [index for index, name in enumerate(self._labels) if name == label]

    def _label(self, tag: str) -> str | None:
        if self.scheme == "word":
            return tag
        if tag == OUTSIDE:
            return None
        return tag if self.scheme == "io" else _parts(tag)[1]

    def _id(self, label: str, is_first: bool, is_last: bool) -> int:
        """The best tag that this model has for a word of a chunk; some published ones lack B- or S-."""
        if self.scheme in ("word", "io"):
            return self._ids[label]
        wanted = "I"
        if self.scheme == "bioes" and (is_first or is_last):
            wanted = ("SU" if is_last else "B") if is_first else "EL"
        elif is_first:
            wanted = "B"
        tails = (f"-{label}", f"_{label}", "") if label == UNNAMED else (f"-{label}", f"_{label}")
        tags = (prefix + tail for prefix in (*wanted, "I", "M", "B") for tail in tails)
        return next(self._ids[tag] for tag in tags if tag in self._ids)


def bad_tag(tag: str, place: str) -> DataError:
    """The error for a tag that is no tag among tags that are."""
    return DataError(
        "bad-tag",
        f"'{tag}' is no tag of a chunk, as most in this column are",
        place=place,
        value=tag,
        expected="O, or B-, I-, E-, S- before a label",
        remedy="mend the line, or name the column of the tags",
    )


def _parts(tag: str) -> tuple[str, str]:
    found = _TAG.fullmatch(tag)
    return (found[1], found[2] or UNNAMED) if found else ("", tag)
