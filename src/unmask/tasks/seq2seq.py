"""Text to text: translation, summaries, headlines, written answers (Rothe et al. 2020, "bert2bert")."""

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.batching import Batch, Features, pack, positions_of
from unmask.data.rows import Table
from unmask.errors import UsageError
from unmask.metrics.generation import closeness, generation, require_scorers
from unmask.model.beam import Found, beam_search
from unmask.model.config import EncoderConfig
from unmask.model.decoder import Decoder, Pairing
from unmask.model.layout import Layout
from unmask.runtime import upload
from unmask.tasks.base import Fitted, Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.pooling import all_tokens
from unmask.tasks.text_columns import find_texts
from unmask.tasks.text_reader import Said, Seq2SeqFeatures, Seq2SeqSettings, TextPrediction, TextReader
from unmask.tokenizer.load import Tokenizer

log = logging.getLogger("unmask")

MAX_SCORES = 1 << 25  # logits that one pass in use may hold: 128 MB in float32
DEV_TEXTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2SeqBatch(Batch):
    """Sources laid end to end, and their targets; the labels are those of the target tokens, (U,) int64.

    Attributes:
        target_ids: (U,) int64.
        target_position_ids: (U,) int64.
        target_cu_seqlens: where each target begins, and the end, (B + 1,) int32, on the host.
    """

    target_ids: Tensor
    target_position_ids: Tensor
    target_cu_seqlens: np.ndarray


class Seq2Seq(Task):
    """An encoder, and a decoder that starts from its weights: only the attention to the source is new."""

    name = "seq2seq"
    head_name = "seq2seq"
    settings_class = Seq2SeqSettings
    main_metric = "chrf"
    falling_metrics = frozenset({"nats_per_token", "perplexity"})
    other_numbers = frozenset({"length_ratio", "written_rows"})
    has_wide_head = True
    settings: Seq2SeqSettings
    head: Decoder

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: Seq2SeqSettings) -> None:
        super().__init__(config, tokenizer, settings)
        self._has_told = False

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """Find source and target by the columns' names, and how to score by the script of the targets."""
        require_scorers()
        columns = find_texts(table, named)
        words: Literal["13a", "zh"] = "zh" if columns.is_han else "13a"
        sources = " + ".join(name for name in (columns.source, columns.pair) if name is not None)
        return Understood(
            {
                "text_column": columns.source,
                "pair_column": columns.pair,
                "label_column": columns.target,
                "bleu_words": words,
                "dev_texts": DEV_TEXTS,
            },
            [
                f"source: {sources} | target: {columns.target} | BLEU of words cut by {words}",
                f"each evaluation writes texts for up to {named.get('dev_texts', DEV_TEXTS)} dev rows",
            ],
        )

    @classmethod
    def texts(cls, row: Row, settings: Settings) -> list[str]:
        """Sources and target: the tokenizer is trained on both."""
        assert isinstance(settings, Seq2SeqSettings), "the settings of this task"
        return [*super().texts(row, settings), row[settings.label_column]]

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable:
        """Rows with one source, so that no dev source was trained on with another target."""
        return tuple(super().texts(row, settings))

    def build_head(self) -> Decoder:
        """The decoder.

        Raises:
            UsageError: it is to have more layers than the encoder.
        """
        depth = self.reader.depth
        if depth > self.config.num_hidden_layers:
            raise UsageError(
                "too-many-layers",
                "the decoder takes over the encoder's layers, and cannot have more of them",
                place="num_decoder_layers",
                value=depth,
                expected=f"at most {self.config.num_hidden_layers}",
            )
        share = self.settings.share_embeddings
        return Decoder(self.config, self.encoder.embeddings, depth, share_embeddings=share)

    def load_weights(self, model: Model) -> list[str]:
        """Take over encoder and decoder of a model folder; without a decoder, start it from the encoder's weights.

        Raises:
            UsageError: the folder's decoder has another shape than the settings say.
        """
        kept = ("encoder.", "head.") if model.head == self.head_name else ("encoder.",)
        given = {name: value for name, value in model.state_dict.items() if name.startswith(kept)}
        has_decoder = any(name.startswith("head.layers.") for name in given)
        found = self.take(given)
        fresh = set(found.missing_keys)
        if has_decoder and (fresh or found.unexpected_keys):
            depth = sum(name.endswith("cross_query.weight") for name in given)
            own = any(name.startswith("head.embeddings.") for name in given)
            raise UsageError(
                "other-decoder",
                f"the folder's decoder has {depth} layers and {'its own' if own else 'shared'} embeddings",
                value=f"{len(self.head.layers)} layers, share_embeddings {self.settings.share_embeddings}",
                remedy=f"--options.num_decoder_layers {depth} --options.share_embeddings {str(not own).lower()}",
            )
        if not has_decoder:
            fresh -= {f"head.{name}" for name in self.head.take_over(self.encoder)}
        return sorted(fresh)

    @property
    def reader(self) -> TextReader:
        """Reads sources and targets, and written pieces."""
        return TextReader(self.config, self.tokenizer, self.settings)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode sources, cut at their ends, and targets; outside training no target is needed, see `TextReader`."""
        features = self.reader.encode(rows, place=place, is_training=is_training)
        if is_training and not self._has_told:
            self._has_told = _tell_cut(cast("Sequence[Seq2SeqFeatures]", features), self.reader)
        return features

    def collate(self, features: Sequence[Features]) -> Seq2SeqBatch:
        """Pack the sources, and the targets in the same order."""
        pairs = cast("Sequence[Seq2SeqFeatures]", features)
        packed = pack(features, position_offset=self.config.position_offset)
        cu_seqlens = np.cumsum([0] + [len(one.target_ids) for one in pairs]).astype(np.int32)
        labels = [one.target_labels for one in pairs if one.target_labels is not None]
        return Seq2SeqBatch(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            cu_seqlens=packed.cu_seqlens,
            token_type_ids=packed.token_type_ids,
            rows=packed.rows,
            labels=torch.from_numpy(np.concatenate(labels).astype(np.int64)) if labels else None,
            target_ids=torch.from_numpy(np.concatenate([one.target_ids for one in pairs]).astype(np.int64)),
            target_position_ids=positions_of(cu_seqlens, self.config.position_offset),
            target_cu_seqlens=cu_seqlens,
        )

    def needed(self, batch: Batch) -> Tensor:
        """All tokens of the sources."""
        return all_tokens(batch)

    def forward(self, batch: Batch) -> Tensor:
        """Logits behind each target token, (U, V); without labels, behind the last token of each target, (B, V)."""
        return self._read_targets(self.encoded(batch), batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy in nats, summed over the target tokens; smoothed in training."""
        assert batch.labels is not None, "a batch without labels has no loss"
        smoothing = self.settings.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.float(), batch.labels, reduction="sum", label_smoothing=smoothing)

    def answer(self, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """Write texts by beam search; where the target is known, say how probable it is."""
        assert isinstance(batch, Seq2SeqBatch), "made by collate"
        longest = int(np.diff(batch.target_cu_seqlens).max())
        room = max(1, MAX_SCORES // (self.config.vocab_size * max(longest, self.settings.num_beams)))
        if len(features) > room:
            parts = [features[start : start + room] for start in range(0, len(features), room)]
            return [one for part in parts for one in self.answer(self.collate(part).to(batch.input_ids.device), part)]
        source = self.encoded(batch)
        if batch.labels is None:
            return [Said(found) for found in self._write(source, batch.cu_seqlens)]
        chosen = [at for at, one in enumerate(features) if one.row < (self.settings.dev_texts or math.inf)]
        found = dict(zip(chosen, self._write(*_part(source, batch.cu_seqlens, chosen)), strict=True)) if chosen else {}
        log_probs = self._read_targets(source, batch).float().log_softmax(-1)
        nats = -log_probs.gather(1, batch.labels[:, None])[:, 0].cpu().numpy().astype(np.float64)
        hits = (log_probs.argmax(-1) == batch.labels).cpu().numpy()
        bounds = batch.target_cu_seqlens
        return [
            Said(found.get(at, []), end - start, float(nats[start:end].sum()), int(hits[start:end].sum()))
            for at, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        ]

    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> TextPrediction:
        """Turn pieces into texts."""
        return self.reader.decode(parts, features, row)

    def score(
        self, predictions: Sequence[TextPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """chrF, BLEU and ROUGE of the written texts; nats and hits for each token of targets, if known."""
        del has_interval
        pairs = _written(predictions, rows, self.settings.label_column)
        scores = asdict(generation(*zip(*pairs, strict=True), words=self.settings.bleu_words))
        tokens = sum(one.num_target_tokens for one in predictions)
        if not tokens:
            return scores | {"written_rows": len(pairs)}
        nats = sum(one.target_nats for one in predictions) / tokens
        return scores | {
            "nats_per_token": nats,
            "perplexity": math.exp(min(nats, 700.0)),
            "token_accuracy": sum(one.target_hits for one in predictions) / tokens,
            "written_rows": len(pairs),
        }

    def row_scores(self, predictions: Sequence[TextPrediction], rows: Sequence[Row]) -> list[float] | None:
        """chrF of each text, from 0 to 1; none where some rows were scored by likelihood alone."""
        pairs = _written(predictions, rows, self.settings.label_column)
        return [closeness(*pair) for pair in pairs] if len(pairs) == len(rows) else None

    def mistakes(self, predictions: Sequence[TextPrediction], rows: Sequence[Row]) -> list[Mistake]:
        """Texts that are not their reference, with their distance from it."""
        column = self.settings.label_column
        return [
            Mistake(
                " | ".join(row[name] for name in self.text_columns),
                row[column],
                one.text,
                1 - closeness(one.text, row[column]),
            )
            for one, row in zip(predictions, rows, strict=True)
            if one.candidates and one.text != row[column].strip()
        ]

    def fit_to_dev(
        self, parts: Sequence[Sequence[Any]], features: Sequence[Sequence[Features]], rows: Sequence[Row]
    ) -> Fitted:
        """The model that is kept writes a text for every row that it is scored on."""
        del parts, features, rows
        return Fitted({"dev_texts": None})

    def example(self, text: str) -> Row:
        """A text as its own target, so that every weight of the decoder has a part in the logits."""
        return {**super().example(text), self.settings.label_column: text}

    def _read_targets(self, source: Tensor, batch: Batch) -> Tensor:
        assert isinstance(batch, Seq2SeqBatch), "made by collate"
        device = batch.input_ids.device
        targets = Layout.of(batch.target_cu_seqlens, device)
        last = upload(torch.from_numpy(batch.target_cu_seqlens[1:].astype(np.int64) - 1), device)
        return self.head(
            source,
            batch.target_ids,
            batch.target_position_ids,
            Pairing(targets, Layout.of(batch.cu_seqlens, device)),
            needed=last if batch.labels is None else None,
            attention_dropout=self.encoder.attention_dropout,
        )

    def _write(self, source: Tensor, cu_seqlens: np.ndarray) -> list[list[Found]]:
        layout = Layout.of(cu_seqlens, source.device)
        decoding = self.head.start(source, layout, self.settings.num_beams)
        return beam_search(decoding, layout.num_texts, self.reader.rules)


def _tell_cut(features: Sequence[Seq2SeqFeatures], reader: TextReader) -> bool:
    """Warn of targets without their end; returns whether there are any."""
    labels = [one.target_labels for one in features if one.target_labels is not None]
    num_cut = sum(int(one[-1]) != reader.tokenizer.sep_id for one in labels)
    if num_cut:
        log.warning(
            "%d of %d targets are longer than max_target_length = %d tokens and are cut, without an end to learn",
            num_cut, len(features), reader.max_target_length,
        )  # fmt: skip
    return num_cut > 0


def _part(source: Tensor, cu_seqlens: np.ndarray, texts: list[int]) -> tuple[Tensor, np.ndarray]:
    """The hidden states of some of the packed texts, and where each of these begins."""
    rows = np.concatenate([np.arange(cu_seqlens[at], cu_seqlens[at + 1]) for at in texts]).astype(np.int64)
    lengths = np.diff(cu_seqlens)[texts]
    return source[torch.from_numpy(rows).to(source.device)], np.concatenate([[0], np.cumsum(lengths)])


def _written(predictions: Sequence[TextPrediction], rows: Sequence[Row], column: str) -> list[tuple[str, str]]:
    """The texts that were written, and their references."""
    return [(one.text, row[column]) for one, row in zip(predictions, rows, strict=True) if one.candidates]
