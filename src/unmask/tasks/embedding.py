"""Sentence vectors: pooled hidden states, trained on pairs, triplets, scored pairs, or plain text (SimCSE).

The network has no head: what is saved is an encoder. Similarity is always the cosine.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.rows import Table
from unmask.errors import DataError, UsageError
from unmask.metrics.vectors import Retrieval, agreement, alignment, cosines, retrieval, uniformity, unit
from unmask.model.config import EncoderConfig
from unmask.model.heads import TaskHead
from unmask.model.sentence import sentence_files
from unmask.tasks.base import Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.number_reader import number_of
from unmask.tasks.pooling import all_tokens, first_tokens, mean_of_texts
from unmask.tasks.text_rows import input_limit
from unmask.tasks.vector_batches import (
    TextBatch,
    check_layers,
    has_dropout,
    merge,
    mixed_states,
    same_texts,
)
from unmask.tasks.vector_columns import find_columns
from unmask.tasks.vector_reader import EmbeddingSettings, Objective, TextVectors, VectorReader
from unmask.tokenizer.load import Tokenizer

log = logging.getLogger("unmask")

_SIMCSE_DROPOUT = 0.1
_MAIN_METRICS: dict[Objective, str] = {"scores": "spearman", "pairs": "mrr", "texts": "contrast"}


class Embedding(Task):
    """Vectors of texts: the mean of a text's hidden states, or the state of its first token."""

    name = "embedding"
    head_name = None
    settings_class = EmbeddingSettings
    falling_metrics = frozenset({"alignment", "uniformity"})
    other_numbers = frozenset({"candidates"})
    kept = ("pooling", "layers", "normalize", "max_length", "long_texts")
    is_coupled = True
    has_probabilities = False
    settings: EmbeddingSettings

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: EmbeddingSettings) -> None:
        super().__init__(config, tokenizer, settings)
        check_layers(settings.layers, config)
        own = config.hidden_dropout_prob or (_SIMCSE_DROPOUT if self.objective == "texts" else 0.0)
        self.encoder.set_dropout(own if settings.dropout is None else settings.dropout)
        self._is_tuned = True
        self._has_told = False

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, Any]) -> Understood:
        """Recognise triplets, pairs, scored pairs and plain texts by their columns."""
        settings, notes = find_columns(table, named)
        low, high = settings.get("score_range", (0.0, 1.0))
        if low == high:
            raise DataError(
                "one-score",
                f"all similarities are {low:g}, or the range of scores has no width",
                place=table.path,
                value=settings.get("label_column"),
                expected="scores that differ: low ones for texts that are unlike, high ones for texts that are alike",
                remedy="name another column, or the range: --options.score_range 0,5",
            )
        return Understood(settings, notes)

    @classmethod
    def texts(cls, row: Row, settings: Settings) -> list[str]:
        """The texts of a row, those that mean something else last."""
        assert isinstance(settings, EmbeddingSettings), "the settings of this task"
        names = (settings.text_column, settings.pair_column, *settings.negative_columns)
        cells = [row[name] for name in names if name is not None]
        return [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])]

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable:
        """Rows about the same text."""
        assert isinstance(settings, EmbeddingSettings), "the settings of this task"
        return str(row[settings.text_column])

    @property
    def reader(self) -> VectorReader:
        """Reads rows and vectors."""
        return VectorReader(self.config, self.tokenizer, self.settings)

    @property
    def objective(self) -> Objective:
        """What the rows tell: similarities of pairs, pairs that belong together, or nothing but texts."""
        return self.reader.objective

    @property
    def main_metric(self) -> str:  # type: ignore[override]  # other columns, another metric
        """Spearman's correlation of scored pairs, MRR of pairs, alignment and uniformity of plain texts."""
        return _MAIN_METRICS[self.objective]

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The column of the text: in use, one text is enough."""
        return self.reader.text_columns

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a file for training or scoring must have."""
        label = self.settings.label_column if self.objective == "scores" else None
        return self.reader.columns if label is None else (*self.reader.columns, label)

    def build_head(self) -> TaskHead:
        """None: a head without weights."""
        return TaskHead(self.config)

    def load_weights(self, model: Model) -> list[str]:
        """Take over the encoder; a model that was made for something else is remembered, to warn of its vectors."""
        self._is_tuned = model.meta.get("task", {}).get("name") == self.name
        return super().load_weights(model)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode the texts of each row, long ones as windows.

        In training every row has all its texts, and SimCSE has each text twice; in use, a row has at least the first.
        """
        return self.reader.encode(rows, place=place, is_training=is_training)

    def collate(self, features: Sequence[Features]) -> TextBatch:
        """Pack the windows, and say which belong to one text; features of a row must be together."""
        base = super().collate(features)
        owners = np.array([(one.row, getattr(one, "part", 0)) for one in features])
        # the first window of each text
        is_first = (np.diff(owners, axis=0, prepend=-1) != 0).any(axis=1)
        is_row = np.diff(owners[:, 0], prepend=-1) != 0
        values = {one.name: getattr(base, one.name) for one in fields(base)}
        if base.labels is not None:
            # scored pairs have their cosine; of pairs that belong together the n-th candidate is the right one
            is_scored = self.objective == "scores"
            values["labels"] = base.labels[torch.from_numpy(is_row)] if is_scored else torch.arange(int(is_row.sum()))
        keys = np.array([getattr(one, "key", 0) for one in features])
        return TextBatch(
            **values,
            text_ids=torch.from_numpy(np.cumsum(is_first) - 1),
            keys=torch.from_numpy(keys[is_first]),
            parts=torch.from_numpy(owners[is_first, 1]),
        )

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each window, or all tokens."""
        return first_tokens(batch) if self.settings.pooling == "cls" else all_tokens(batch)

    def forward(self, batch: Batch) -> Tensor:
        """The vector of each window, (B, D) float32, not normalized."""
        is_mean = self.settings.pooling == "mean"
        if self.reads_all_layers:
            hidden = mixed_states(self, batch, self.settings.layers)
            hidden = hidden if is_mean else hidden[self.needed(batch)]
        else:
            hidden = self.encoded(batch, None if is_mean else self.needed(batch))
        return mean_of_texts(hidden.float(), batch) if is_mean else hidden.float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum over rows of InfoNCE (Gao et al. 2021, equations 1 and 5), or of the squared error of the cosine."""
        assert isinstance(batch, TextBatch), "collate makes these"
        assert batch.labels is not None, "a batch without labels has no loss"
        self._is_tuned = True
        self._explain(len(batch.labels))
        vectors = F.normalize(merge(logits.float(), batch), dim=-1)
        first, pair, others = (batch.parts == 0, batch.parts == 1, batch.parts > 1)
        if self.objective == "scores":
            return ((vectors[first] * vectors[pair]).sum(dim=-1) - batch.labels).square().sum()
        keys = batch.keys
        left_out = same_texts(torch.stack([keys[first], keys[pair]], dim=1), torch.cat([keys[pair], keys[others]]))
        candidates = torch.cat([vectors[pair], vectors[others]])
        similarities = vectors[first] @ candidates.T / self.settings.temperature
        return F.cross_entropy(similarities.masked_fill(left_out, -torch.inf), batch.labels, reduction="sum")

    def answer(self, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """The vectors of all windows; of SimCSE's pairs, the second one under dropout."""
        self._warn_once()
        twins = [at for at, one in enumerate(features) if getattr(one, "part", 0)] if self.objective == "texts" else []
        found = super().answer(batch, features)
        if twins:
            self._check_dropout()
            device = batch.input_ids.device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(0)
                self.encoder.train()
                noisy = self(self.collate([features[at] for at in twins]).to(device)).float().cpu().numpy()
                self.encoder.eval()
            for at, vector in zip(twins, noisy, strict=True):
                found[at] = vector
        return found

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> TextVectors:
        """Join the windows of each text: their mean, weighted by their tokens."""
        return self.reader.decode(parts, features, row)

    def score(
        self, predictions: Sequence[TextVectors], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Agreement with scores; or retrieval among the rows' texts, alignment and uniformity."""
        firsts = np.array([one.vector for one in predictions], np.float32)
        if self.objective == "scores":
            given = [one.similarity or 0.0 for one in predictions]
            return asdict(agreement(given, self._gold(rows), has_interval=has_interval))
        seconds = np.array([one.pair for one in predictions], np.float32)
        distances = {"alignment": alignment(firsts, seconds), "uniformity": uniformity(firsts)}
        if self.objective == "texts":
            return {"contrast": -distances["alignment"] - distances["uniformity"], **distances}
        found, candidates = self._retrieve(predictions, rows)
        scores: dict[str, Any] = {name: getattr(found, name) for name in ("mrr", "recall_at_1", "recall_at_10")}
        triplets = [(at, other) for at, one in enumerate(predictions) for other in one.negatives]
        if triplets:
            rows_of, others = [at for at, _ in triplets], np.array([other for _, other in triplets], np.float32)
            is_nearer = cosines(firsts[rows_of], seconds[rows_of]) > cosines(firsts[rows_of], others)
            scores["triplet_accuracy"] = float(is_nearer.mean())
        return scores | distances | {"candidates": len(candidates)}

    def row_scores(self, predictions: Sequence[TextVectors], rows: Sequence[Row]) -> list[float] | None:
        """1 / rank of the right text, for pairs."""
        if self.objective != "pairs":
            return None
        found: list[float] = (1 / self._retrieve(predictions, rows)[0].ranks).tolist()
        return found

    def mistakes(self, predictions: Sequence[TextVectors], rows: Sequence[Row]) -> list[Mistake]:
        """Pairs for which another text is nearer, or scored pairs by the error of their cosine."""
        if self.objective == "texts":
            return []
        shown = [" | ".join(self.texts(row, self.settings)[:2]) for row in rows]
        if self.objective == "scores":
            pairs = zip(shown, predictions, self._gold(rows), strict=True)
            told = [(text, self.reader.cosine(gold), one.similarity or 0.0) for text, one, gold in pairs]
            return [Mistake(text, f"{a:.2f}", f"{b:.2f}", abs(a - b)) for text, a, b in told]
        found, candidates = self._retrieve(predictions, rows)
        return [
            Mistake(row[self.settings.text_column], row[str(self.settings.pair_column)], candidates[near], float(rank))
            for row, near, rank in zip(rows, found.nearest, found.ranks, strict=True)
            if rank > 1
        ]

    @property
    def files(self) -> dict[str, Any]:
        """Those of sentence-transformers, which pools the last layer alone, and cuts long texts."""
        if self.reads_all_layers:
            return {}
        chosen, longest = self.settings, input_limit(self.reader, self.settings.max_length)
        return sentence_files(
            width=self.config.hidden_size, max_length=longest, pooling=chosen.pooling, normalize=chosen.normalize
        )

    @property
    def needs_dropout(self) -> bool:
        """Of SimCSE's pairs, whose texts are the same, the second one is read under dropout."""
        return self.objective == "texts"

    @property
    def reads_all_layers(self) -> bool:
        """Whether other layers than the last are pooled."""
        return self.settings.layers not in ((-1,), (self.config.num_hidden_layers,))

    def _gold(self, rows: Sequence[Row]) -> list[float]:
        column = str(self.settings.label_column)
        return [number_of(row, column, row_number(at)) for at, row in enumerate(rows)]

    def _retrieve(self, predictions: Sequence[TextVectors], rows: Sequence[Row]) -> tuple[Retrieval, list[str]]:
        """Rank the different second texts of all rows, and the negatives, for each first text."""
        known = {row[str(self.settings.pair_column)]: one.pair for one, row in zip(predictions, rows, strict=True)}
        for one, row in zip(predictions, rows, strict=True):
            for text, vector in zip(self.texts(row, self.settings)[2:], one.negatives, strict=True):
                known.setdefault(text, vector)
        places = {text: at for at, text in enumerate(known)}
        targets = np.array([places[row[str(self.settings.pair_column)]] for row in rows])
        queries = np.array([one.vector for one in predictions], np.float32)
        candidates = np.array(list(known.values()), np.float32)
        right: dict[str, set[int]] = {}
        for row, target in zip(rows, targets, strict=True):
            right.setdefault(row[self.settings.text_column], set()).add(int(target))
        others = [[*right[row[self.settings.text_column]]] for row in rows]
        return _without_others(retrieval(queries, candidates, targets), queries, candidates, targets, others), [*known]

    def _warn_once(self) -> None:
        if not self._is_tuned:
            self._is_tuned = True
            log.warning(
                "this model was not trained for sentence vectors, so their similarities mean little; first train it on "
                "pairs, scored pairs or plain text: unmask finetune FILE --task embedding --model FOLDER"
            )

    def _check_dropout(self) -> None:
        if not has_dropout(self):
            raise UsageError(
                "no-dropout",
                "plain texts are learned and scored by two passes that differ by their dropout (SimCSE); here is none",
                place="options.dropout, or the engine",
                remedy="train with --options.dropout 0.1 and score with --engine torch, or give pairs",
            )

    def _explain(self, num_rows: int) -> None:
        """Say once what a row is compared with; refuse SimCSE where nothing differs."""
        if self.objective == "texts" and self.training:
            self._check_dropout()
        if not self._has_told and self.training and self.objective != "scores":
            self._has_told = True
            log.info(
                "each row is compared with %d others, those that go through the network with it; a batch of more than "
                "--max-tokens is cut, and then each row meets fewer",
                num_rows - 1,
            )


def _without_others(
    found: Retrieval,
    queries: np.ndarray,
    candidates: np.ndarray,
    targets: np.ndarray,
    right: Sequence[Sequence[int]],
) -> Retrieval:
    """Ranks for which other right answers of a query are no wrong ones; `right` has all its right candidates."""
    ranks, nearest = found.ranks.copy(), found.nearest.copy()
    left, normed = unit(queries), unit(candidates)
    for at, answers in enumerate(right):
        if len(answers) > 1:
            near = normed @ left[at]
            own = near[targets[at]]
            near[answers] = -np.inf
            ranks[at] = 1 + (near >= own).sum()
            nearest[at] = near.argmax() if len(answers) < len(near) else -1
    return replace(
        found,
        mrr=float((1 / ranks).mean()),
        recall_at_1=float((ranks == 1).mean()),
        recall_at_10=float((ranks <= 10).mean()),
        nearest=nearest,
        ranks=ranks,
    )
