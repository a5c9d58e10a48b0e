"""Labels of words and of runs of words: names, parts of speech, chunks (Devlin et al. 2019, section 5.3).

A word is decided by its first piece, or by the mean of its pieces, in the window in which it stands farthest from an
edge; the answer is character spans in the text as it was given.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.config import Settings
from unmask.data.batching import Batch, Features, pack
from unmask.data.rows import Table
from unmask.data.spans import Span, UnitRule, drawn, fit, is_unspaced
from unmask.data.tags import Scheme, TagSet, tags_for
from unmask.errors import DataError
from unmask.metrics.spans import sentence_f1, span_scores
from unmask.model.crf import CrfHead
from unmask.model.heads import TokenHead
from unmask.tasks.base import Mark, Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.tag_reader import TaggedFeatures, TaggingSettings, TagPrediction, TagReader


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedBatch(Batch):
    """Windows laid end to end; M words in all, P pieces that decide them.

    Attributes:
        word_counts: words of each window, (B,) int64, on the host.
        piece_words: the word that each piece belongs to, (P,) int64; `None` where one piece decides.
    """

    word_counts: np.ndarray
    piece_words: Tensor | None = None


class Tagging(Task):
    """Dropout and one linear layer on the state of each word, and a conditional random field if it is asked for."""

    name = "tagging"
    head_name = "tagging"
    settings_class = TaggingSettings
    main_metric = "f1"
    form = "tagged"
    settings: TaggingSettings
    head: TokenHead | CrfHead

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """Collect the labels; see whether each word has one, and how texts without words are best cut."""
        if table.form != "tagged":
            raise DataError(
                "other-form",
                "the file is a table, not text with labelled words or spans",
                place=table.path,
                expected="CoNLL, CoNLL-U, or JSON Lines with spans",
                remedy="docs/guides/tag.md shows each",
            )
        counts = Counter(span.label for row in table.rows for span in row["spans"])
        if not counts:
            raise DataError("no-spans", "no row has a labelled span", place=table.path, remedy="see docs/guides/tag.md")
        has_words = all(row["words"] is not None for row in table.rows)
        scheme: Scheme = "word" if has_words and _is_on_each_word(table.rows) else "bio"
        rule = _unit_rule(table.rows, has_words)
        kinds = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(6))
        kinds += f" and {len(counts) - 6} more" * (len(counts) > 6)
        what = "labelled words" if scheme == "word" else "words and spans" if has_words else "spans of characters"
        notes = [f"texts with {what} | {len(counts)} labels: {kinds} | texts without words are cut into {rule}"]
        notes += _doubtful(table)
        # Written out here, where it is known that these are names of spans: `E-mail` and `M` look like tags.
        schemes: tuple[Scheme, ...] = get_args(Scheme)
        asked = next((one for one in schemes if one == named.get("scheme")), scheme)
        labels = tags_for(sorted(counts), asked)
        settings = {"labels": labels, "scheme": scheme, "units": rule}
        return Understood(settings | {"label_column": named.get("label_column", table.tag_column)}, notes)

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Texts with spans, and texts without."""
        del settings
        return "spans" if row["spans"] else ""

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable | None:
        """Sentences of one document, where the file marks them."""
        del settings
        return row.get("document")

    @property
    def labels(self) -> list[str]:
        """The tags, in the order of the logits."""
        return list(self.settings.labels)

    @property
    def reader(self) -> TagReader:
        """Reads rows and logits."""
        chain = self.head.chain() if isinstance(self.head, CrfHead) else None
        return replace(self._plain_reader, chain=chain)

    @property
    def _plain_reader(self) -> TagReader:
        """The reader without the chain, whose numbers may have to come from a card."""
        return TagReader(self.config, self.tokenizer, self.settings)

    @property
    def tagset(self) -> TagSet:
        """The tags as a way from spans to their numbers and back."""
        return self._plain_reader.tagset

    def build_head(self) -> TokenHead | CrfHead:
        """RoBERTa's token classifier, with a chain of tags on it if `crf`."""
        kind = CrfHead if self.settings.crf else TokenHead
        return kind(self.config, len(self.settings.labels), self.settings.head_dropout)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts with their words, long ones as several windows."""
        return self._plain_reader.encode(rows, place=place, is_training=is_training)

    def collate(self, features: Sequence[Features]) -> TaggedBatch:
        """Pack windows, with the places of the pieces that decide their words."""
        ours = [one for one in features if isinstance(one, TaggedFeatures)]
        batch = pack(features, position_offset=self.config.position_offset)
        pieces = np.concatenate(
            [one.pieces + start for one, start in zip(ours, batch.cu_seqlens, strict=False)], axis=0
        ).astype(np.int64)
        values = {one.name: getattr(batch, one.name) for one in fields(batch)}
        tags = [one.tags for one in ours if one.tags is not None]
        values["labels"] = torch.from_numpy(np.concatenate(tags)) if len(tags) == len(ours) else None
        counts = np.array([len(one.words) for one in ours], dtype=np.int64)
        if self.settings.pooling == "first":
            return TaggedBatch(**values | {"positions": torch.from_numpy(pieces[:, 0].copy())}, word_counts=counts)
        lengths = pieces[:, 1] - pieces[:, 0]
        owner = np.repeat(np.arange(len(pieces)), lengths)
        places = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + pieces[owner, 0]
        values["positions"] = torch.from_numpy(places)
        return TaggedBatch(**values, word_counts=counts, piece_words=torch.from_numpy(owner))

    def needed(self, batch: Batch) -> Tensor:
        """The pieces that decide words."""
        assert batch.positions is not None, "a batch of this task has positions"
        return batch.positions

    def forward(self, batch: Batch) -> Tensor:
        """(M, C) logits of the words' tags."""
        assert isinstance(batch, TaggedBatch), "a batch of this task"
        hidden = self.encoded(batch, self.needed(batch))
        if batch.piece_words is not None:
            hidden = _means(hidden, batch.piece_words, int(batch.word_counts.sum()))
        return self.head(hidden)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the words' tags, or the negative log-likelihood of each window's chain, summed."""
        assert isinstance(batch, TaggedBatch), "a batch of this task"
        assert batch.labels is not None, "a batch without labels has no loss"
        if isinstance(self.head, CrfHead):
            return self.head.loss(logits, batch.labels, batch.word_counts)
        return F.cross_entropy(logits.float(), batch.labels, reduction="sum")

    def parts(self, logits: Tensor, batch: Batch, features: Sequence[Features]) -> list[np.ndarray]:
        """Logits of each window's words, (M, C)."""
        del features
        assert isinstance(batch, TaggedBatch), "a batch of this task"
        return np.split(logits.float().cpu().numpy(), np.cumsum(batch.word_counts)[:-1])

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> TagPrediction:
        """Put the windows' words together and read the spans off the best tags, or the best chain of them."""
        return self.reader.decode(parts, features, row)

    def score(
        self, predictions: Sequence[TagPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Precision, recall and F1 of whole spans, all and by label, and the share of words with the right tag."""
        gold = [self._gold(row) for row in rows]
        found = [_spans(answer) for answer in predictions]
        hits: list[bool] = []
        for row, ours, theirs in zip(rows, gold, found, strict=True):
            words, text = self._plain_reader.words(row), row[self.settings.text_column]
            wanted, given = (
                self.tagset.ids_of(fit(text, spans, words, policy="expand"), len(words)) for spans in (ours, theirs)
            )
            hits += [a == b for a, b in zip(wanted, given, strict=True) if a is not None]
        plain = ([_plain(one) for one in some] for some in (gold, found))
        scores = asdict(span_scores(*plain, has_interval=has_interval))
        return scores | {"accuracy": sum(hits) / max(len(hits), 1)}

    def row_counts(self, predictions: Sequence[TagPrediction], rows: Sequence[Row]) -> np.ndarray:
        """Right spans, found ones, and those of the file."""
        pairs = [(set(_spans(one)), set(self._gold(row))) for one, row in zip(predictions, rows, strict=True)]
        return np.array([(len(a & b), len(a), len(b)) for a, b in pairs])

    def row_scores(self, predictions: Sequence[TagPrediction], rows: Sequence[Row]) -> list[float]:
        """F1 of each text's spans; 1 where there is nothing to find and nothing was found."""
        return [
            sentence_f1(_plain(self._gold(row)), _plain(_spans(answer)))
            for answer, row in zip(predictions, rows, strict=True)
        ]

    def mistakes(self, predictions: Sequence[TagPrediction], rows: Sequence[Row]) -> list[Mistake]:
        """Texts whose spans are not all right, both kinds marked; the surest wrong span tells the order."""
        wrong = []
        for answer, row in zip(predictions, rows, strict=True):
            text = row[self.settings.text_column]
            gold, found = self._gold(row), _spans(answer)
            if set(gold) == set(found):
                continue
            marks = [Mark(one.start, one.end, one.label, True) for one in gold]
            marks += [Mark(one.start, one.end, one.label, False) for one in found]
            extra = [one.score for one, span in zip(answer.spans, found, strict=True) if span not in gold]
            label, given = (
                ", ".join(f"{text[a.start : a.end]} [{a.label}]" for a in spans) or "-" for spans in (gold, found)
            )
            wrong.append(Mistake(text, label, given, max(extra, default=0.0), tuple(marks)))
        return wrong

    def _gold(self, row: Row) -> list[Span]:
        """The spans of the file as they stand on words; dropped ones stay in the count as missed."""
        policy = self.settings.span_policy
        if policy in (None, "strict", "drop"):
            return list(row["spans"])
        words = self._plain_reader.words(row)
        chunks = fit(row[self.settings.text_column], row["spans"], words, policy=policy)
        return [Span(words[one.first][0], words[one.end - 1][1], one.label) for one in chunks]


def _means(hidden: Tensor, owner: Tensor, count: int) -> Tensor:
    """Mean of the rows that belong to each word, (M, D)."""
    sums = hidden.new_zeros(count, hidden.shape[1]).index_add(0, owner, hidden)
    return sums / torch.bincount(owner, minlength=count)[:, None].to(hidden.dtype)


def _spans(answer: TagPrediction) -> list[Span]:
    return [Span(one.start, one.end, one.label) for one in answer.spans]


def _plain(spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    return [(one.start, one.end, one.label) for one in spans]


def _is_on_each_word(rows: Sequence[Row]) -> bool:
    """Whether every span is one word, and nine of ten words have one."""
    total = labelled = 0
    for row in rows:
        words = set(row["words"])
        if any((span.start, span.end) not in words for span in row["spans"]):
            return False
        total, labelled = total + len(words), labelled + len(row["spans"])
    return labelled >= 0.9 * total


def _unit_rule(rows: Sequence[Row], has_words: bool) -> UnitRule:
    """How to cut texts so that their units are like the words of a file."""
    sample = rows[:500]
    if not has_words:
        text = "".join(row["text"] for row in sample)
        return "characters" if 3 * sum(map(is_unspaced, text)) >= len(text) else "runs"
    words = [row["text"][start:end] for row in sample for start, end in row["words"]]
    return "characters" if sum(len(word) == 1 for word in words) >= 0.9 * len(words) else "joined"


def _doubtful(table: Table) -> list[str]:
    """A note on spans that the reader doubts, the first one drawn."""
    doubted = [at for at, row in enumerate(table.rows) if row.get("doubts")]
    if not doubted:
        return []
    row = table.rows[doubted[0]]
    span, reason = row["doubts"][0]
    line = f"{len(doubted)} texts have a span that {reason}; the first, {table.place(doubted[0])}:"
    return [f"{line}\n{drawn(row['text'], span)}"]
