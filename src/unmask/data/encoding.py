"""Documents to token ids, sentences and word starts; `pools` does it in several processes, and `corpus` uses it."""

import itertools
from dataclasses import dataclass

import numpy as np

from unmask.data.clean import paragraphs, sentence_ends
from unmask.data.files import Document
from unmask.data.words import Segmenter, word_starts
from unmask.errors import DataError
from unmask.tokenizer.load import Pieces, Tokenizer


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded documents, one after the other.

    Attributes:
        ids: (n,) uint16 or uint32, see `id_dtype`.
        word_starts: True where a word begins, (n,) bool.
        sentence_lengths: tokens of each sentence, (m,) int64, none 0.
        document_sentences: sentences of each document, (d,) int64; 0 for a document without text.
        document_bytes: text of each document in UTF-8, (d,) int64.
    """

    ids: np.ndarray
    word_starts: np.ndarray
    sentence_lengths: np.ndarray
    document_sentences: np.ndarray
    document_bytes: np.ndarray

    def document_ends(self) -> np.ndarray:
        """Token at which each document ends, (d,) int64."""
        sentence_ends = np.concatenate([[0], np.cumsum(self.sentence_lengths)])
        return sentence_ends[np.cumsum(self.document_sentences)]

    def split(self, document: int) -> tuple["Encoded", "Encoded"]:
        """Cut before a document."""
        sentence = int(self.document_sentences[:document].sum())
        token = int(self.sentence_lengths[:sentence].sum())
        cuts = (token, token, sentence, document, document)
        arrays = (
            self.ids,
            self.word_starts,
            self.sentence_lengths,
            self.document_sentences,
            self.document_bytes,
        )
        heads = [array[:cut] for array, cut in zip(arrays, cuts, strict=True)]
        tails = [array[cut:] for array, cut in zip(arrays, cuts, strict=True)]
        return Encoded(*heads), Encoded(*tails)


def id_dtype(tokenizer: Tokenizer) -> str:
    """The smallest number format that holds all ids: `uint16`, or `uint32` above 65,536 ids."""
    return "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"


@dataclass(frozen=True)
class Encoder:
    """Encodes documents, here or in another process: it can be pickled.

    Attributes:
        tokenizer: gives the ids.
        segmenter: gives the words of Chinese; None takes the tokenizer's pre-tokens.
    """

    tokenizer: Tokenizer
    segmenter: Segmenter | None = None

    def __call__(self, documents: list[Document]) -> Encoded:
        """Encode documents; see `encode`."""
        return encode(self.tokenizer, documents, self.segmenter)


def encode(tokenizer: Tokenizer, documents: list[Document], segmenter: Segmenter | None = None) -> Encoded:
    """Encode documents: each paragraph as a whole, so that its inner words keep their blank, then cut into sentences.

    Raises:
        DataError: a text holds half of a surrogate pair, which no encoding of text can hold.
    """
    sizes = [_size(document) for document in documents]
    texts = [paragraphs(document.text) for document in documents]
    flat = [paragraph for group in texts for paragraph in group]
    pieces = tokenizer.encode(flat)
    words = [word_starts(text, one, segmenter) for text, one in zip(flat, pieces, strict=True)]
    lengths, owners = _sentence_lengths(flat, pieces)
    documents_of_paragraphs = np.repeat(np.arange(len(texts)), [len(group) for group in texts])
    return Encoded(
        ids=np.concatenate([np.empty(0, np.int32), *(one.ids for one in pieces)]).astype(id_dtype(tokenizer)),
        word_starts=np.concatenate([np.empty(0, np.bool_), *words]),
        sentence_lengths=lengths,
        document_sentences=np.bincount(documents_of_paragraphs[owners], minlength=len(texts)),
        document_bytes=np.array(sizes, dtype=np.int64),
    )


def _sentence_lengths(texts: list[str], pieces: list[Pieces]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each sentence and the paragraph that it is in; a token belongs to the sentence that it begins in."""
    ends = [sentence_ends(text) for text in texts]
    owners = np.repeat(np.arange(len(texts)), [len(one) for one in ends])
    # All paragraphs on one ruler, one free place between them, so that one search finds all cuts.
    bases = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)])
    starts = np.concatenate([np.empty(0, np.int64), *(one.offsets[:, 0] for one in pieces)])
    starts += np.repeat(bases[:-1], [len(one.ids) for one in pieces])
    marks = np.fromiter(itertools.chain.from_iterable(ends), np.int64, len(owners)) + bases[owners]
    is_last = np.diff(owners, append=len(texts)) > 0
    marks[is_last] = bases[owners[is_last] + 1]
    lengths = np.diff(np.searchsorted(np.maximum.accumulate(starts), marks), prepend=0)
    return lengths[lengths > 0], owners[lengths > 0]


def _size(document: Document) -> int:
    try:
        return len(document.text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise DataError(
            "lone-surrogate",
            "the text holds half of a character pair (a JSON escape such as \\ud83d alone)",
            place=f"{document.path}:{document.line}",
            value=ascii(document.text[max(0, error.start - 20) : error.start + 1]),
            remedy="write the text again from its source; it was cut inside an emoji",
        ) from None
