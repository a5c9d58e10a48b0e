"""The one contract of all tasks: from a row to features, logits, a loss, a prediction and a score.

    rows -encode-> features -collate-> batch -forward-> logits --+-- loss            (training)
                                                                 +-- decode -> predictions -score-> metrics

A new task is one file: its settings, its prediction, its head and these methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.batching import Batch, Features, pack
from unmask.errors import DataError
from unmask.model.config import EncoderConfig, Head
from unmask.model.encoder import Encoder
from unmask.model.heads import ClassificationHead, MaskedLMHead
from unmask.model.layout import Layout
from unmask.tokenizer.load import Tokenizer

Row = Mapping[str, str]
Place = Callable[[int], object]


@dataclass(frozen=True)
class Prediction:
    """What a task answers about one row; each task has its own fields."""


def row_number(index: int) -> str:
    """The place of a row that came from no file."""
    return f"text {index + 1}"


class Task(nn.Module, ABC):
    """A network with a head, and the way from text to its input and from its output back to answers.

    Args:
        config: shape of the encoder.
        tokenizer: the one that the encoder was trained with.
        settings: the task's own settings.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[Settings]]
    head_name: ClassVar[Head]
    main_metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: Settings) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.settings = settings
        self.encoder = Encoder(config)
        self.head = self.build_head()

    @abstractmethod
    def build_head(self) -> MaskedLMHead | ClassificationHead:
        """The head of this task, with random weights; `settings` and `encoder` are there already."""

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Turn rows into features, one each and in order.

        Args:
            rows: named texts as they stand in the file.
            place: says where row number i comes from, for errors.
            is_training: a label is required in each row.

        Raises:
            DataError: a column is missing, a text is empty or a label is unknown; the place is named.
        """

    @abstractmethod
    def needed(self, batch: Batch) -> Tensor:
        """Places in the batch whose last hidden states the head reads, (N,) int64."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum over the batch's targets, a float32 scalar; the loop divides by the targets of the whole step.

        An objective of several parts gives one sum each, (P,), in the order of `Batch.counts`.
        """

    @abstractmethod
    def decode(self, logits: Tensor, features: Sequence[Features], rows: Sequence[Row]) -> list[Any]:
        """Turn the logits of one batch into one prediction a row."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], rows: Sequence[Row]) -> dict[str, Any]:
        """Compare predictions with the labels in the rows; `main_metric` is one of the keys."""

    @property
    @abstractmethod
    def text_columns(self) -> tuple[str, ...]:
        """Columns of a row that hold its texts, in order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a labelled file must have."""
        label = getattr(self.settings, "label_column", None)
        return self.text_columns if label is None else (*self.text_columns, label)

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes, in the order of the logits; `None` for tasks without classes."""
        return None

    def example(self, text: str) -> Row:
        """A row that asks this task about a text."""
        return dict.fromkeys(self.text_columns, text)

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pack features into one batch."""
        return pack(features, position_offset=self.config.position_offset)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of one batch: (B, C) for labelled texts, (M, V) for masked tokens."""
        layout = Layout.of(batch.cu_seqlens, batch.input_ids.device)
        hidden = self.encoder(
            batch.input_ids,
            batch.position_ids,
            layout,
            token_type_ids=batch.token_type_ids,
            needed=self.needed(batch),
        )
        logits: Tensor = self.head(hidden)
        return logits

    def init_weights(self, seed: int) -> None:
        """Draw all weights anew from N(0, initializer_range), biases 0 (BERT, and RoBERTa's code)."""
        self.encoder.init_weights(seed)
        self.init_head(seed)

    def init_head(self, seed: int) -> None:
        """Draw the head's weights anew."""
        self.head.init_weights(seed + 1)

    def load_weights(self, model: Model) -> list[str]:
        """Take over the encoder of a model folder, and its head if it answers the same question.

        Returns:
            Names of this task's parameters that the folder does not have; they keep their random values.
        """
        kept: tuple[str, ...] = ("encoder.",)
        if model.head == self.head_name:
            is_pooler = "head.dense.weight" in model.state_dict and "head.out.weight" in model.missing
            kept += ("head.",) if is_pooler or model.labels == self.labels else ()
        given = {name: value for name, value in model.state_dict.items() if name.startswith(kept)}
        return sorted(self.load_state_dict(given, strict=False).missing_keys)


def text_of(row: Row, column: str, where: object) -> str:
    """The text in a column of a row.

    Raises:
        DataError: there is no such column, or nothing but white space in it.
    """
    if column not in row:
        raise DataError(
            "missing-column",
            f"there is no column '{column}'",
            place=where,
            expected=f"one of the columns {', '.join(row)}",
            remedy="name the file's column: --text-column NAME, --pair-column NAME, --label-column NAME",
        )
    text = row[column]
    if not text.strip():
        raise DataError(
            "empty-text", f"the text in column '{column}' is empty", place=where, remedy="fill it or remove the row"
        )
    return text
