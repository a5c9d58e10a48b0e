"""The one contract of all tasks: from a row to features, logits, a loss, a prediction and a score.

    rows -encode-> features -collate-> batch -forward-> logits --+-- loss            (training)
                                                                 +-- parts -> decode -> predictions -score-> metrics

A row may become several features: the windows of a long text, the choices of a question. `parts` gives what the network
says about each of them, `decode` makes one prediction of the parts of a row. A new task is one file: its settings, its
prediction, its head and these methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.batching import Batch, Features, pack
from unmask.data.rows import Form, Table
from unmask.errors import UsageError
from unmask.model.config import EncoderConfig, Head
from unmask.model.encoder import Encoder
from unmask.model.heads import TaskHead
from unmask.model.layout import Layout
from unmask.tasks.pooling import mean_of_texts
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Mark as Mark
from unmask.tasks.rows import Mistake as Mistake
from unmask.tasks.rows import Place as Place
from unmask.tasks.rows import Prediction as Prediction
from unmask.tasks.rows import Row as Row
from unmask.tasks.rows import cell_of as cell_of
from unmask.tasks.rows import row_number as row_number
from unmask.tasks.rows import text_columns
from unmask.tasks.rows import text_of as text_of
from unmask.tokenizer.load import Tokenizer


@dataclass(frozen=True)
class Understood:
    """What a task makes of a labelled file.

    Attributes:
        settings: values of the task's settings that follow from it, such as its columns and classes.
        notes: lines that tell the user.
    """

    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """What a task chose on the dev rows once its weights were ready.

    Attributes:
        settings: values of its settings that change.
        scores: numbers that go with the final scores, such as an error before and after.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


class Task(nn.Module, ABC):
    """A network with a head, and the way from text to its input and from its output back to answers.

    Args:
        config: shape of the encoder.
        tokenizer: the one that the encoder was trained with.
        settings: the task's own settings.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[Settings]]
    kept: ClassVar[tuple[str, ...]] = ()
    """Settings that a model of this task keeps when it is trained further, unless others are named."""
    head_name: ClassVar[Head | None]
    num_outputs: ClassVar[int | None] = None
    """How many outputs its head has, where that does not hang on the rows."""
    main_metric: str
    """Of the class, or of one task where its settings ask another question."""
    falling_metrics: ClassVar[frozenset[str]] = frozenset()
    """Its scores that are better the lower they are."""
    other_numbers: ClassVar[frozenset[str]] = frozenset()
    """Numbers among its scores that are no goal: counts, and what the rows or the settings alone decide."""
    form: ClassVar[Form] = "table"
    """What its rows look like in files."""
    is_coupled: ClassVar[bool] = False
    """Whether the features of a row are compared with each other, and so must stand in one batch."""
    has_probabilities: ClassVar[bool] = True
    """Whether its logits are of probabilities, so that two passes of the network can be compared by them."""
    has_wide_head: ClassVar[bool] = False
    """Whether its head has enough to compute for several threads: the logits of a vocabulary."""

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: Settings) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.settings = settings
        self.encoder = Encoder(config)
        self.head = self.build_head()

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """Find columns, classes and whatever else the task needs in a labelled file.

        Args:
            table: to be trained on.
            named: settings of the task that the user gave, such as `text_column`, `pair_column` and `label_column`; and
                `skip_bad`, whether rows that cannot be encoded will be left out.

        Raises:
            DataError: the file does not fit the task; its line is named.
            UsageError: the task is not trained on labelled files.
        """
        del table, named
        raise UsageError("no-finetuning", f"the task '{cls.name}' is trained by `unmask pretrain`")

    @classmethod
    def texts(cls, row: Row, settings: Settings) -> list[str]:
        """All texts of a row, for training a tokenizer and for finding the same row twice."""
        return [row[name] for name in text_columns(settings)]

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Rows of one stratum are split alike between training and dev; all of them by default."""
        del row, settings
        return ""

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable | None:
        """Rows of one group, such as questions about one text, are never parted; `None` stands alone."""
        del row, settings
        return None

    @abstractmethod
    def build_head(self) -> TaskHead:
        """The head of this task, with random weights; `settings` and `encoder` are there already."""

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Turn rows into features, one or more each and in order; `Features.row` is the number of the row.

        Args:
            rows: as they stand in the file.
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

    def log_probs(self, logits: Tensor, batch: Batch) -> Tensor:
        """Logarithms of the probabilities of all possible answers, for comparing two passes of the network.

        By default each row of the logits is one choice among its columns. Which entries form one distribution does not
        matter to the caller; impossible ones are -inf.

        Args:
            logits: of the batch.
            batch: that the network saw, with labels.

        Raises:
            UsageError: the task has none.
        """
        del batch
        self.require_probabilities()
        return logits.float().log_softmax(-1)

    @classmethod
    def require_probabilities(cls) -> None:
        """Refuse what compares probabilities, where there are none.

        Raises:
            UsageError: the task has none.
        """
        if not cls.has_probabilities:
            raise UsageError(
                "no-probabilities",
                f"the task '{cls.name}' has no probabilities, so R-Drop has nothing to compare",
                place="regularize.r_drop",
                remedy="leave out --regularize.r-drop; --regularize.fgm-epsilon 1 works with every task",
            )

    def parts(self, logits: Tensor, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """What the network says about each of the batch's features, on the host; by default its row of the logits."""
        del batch, features
        return list(logits.float().cpu().numpy())

    @abstractmethod
    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> Any:
        """Turn the parts of one row into one prediction."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], rows: Sequence[Row], *, has_interval: bool = True) -> dict[str, Any]:
        """Compare predictions with the labels in the rows; `main_metric` is one of the keys.

        Args:
            predictions: one a row.
            rows: with their labels.
            has_interval: draw the main metric's interval too, if the task tells one; who scores a thousand draws of
                the rows wants none.
        """

    @property
    def is_chosen_by_fit(self) -> bool:
        """Whether the main score hangs on what `fit_to_dev` fits, so that epochs are compared with it fitted."""
        return False

    def fit_to_dev(
        self, parts: Sequence[Sequence[Any]], features: Sequence[Sequence[Features]], rows: Sequence[Row]
    ) -> Fitted:
        """Choose what is chosen behind training, such as a temperature or a threshold; nothing by default.

        Fine-tuning asks this once, with the best weights, and before the final scores.

        Args:
            parts: of each dev row, as `decode` gets them.
            features: of each dev row.
            rows: with their labels.
        """
        del parts, features, rows
        return Fitted()

    def row_scores(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[float] | None:
        """How right each answer is, from 0 to 1; `None` where only many rows together have a score."""
        del predictions, rows
        return None

    def row_counts(self, predictions: Sequence[Any], rows: Sequence[Row]) -> np.ndarray | None:
        """Where the main metric is one F1 over the findings of all rows: how many of a row's are right, how many were
        given, and how many there are, (N, 3) int64; `None` elsewhere."""
        del predictions, rows
        return None

    def mistakes(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[Mistake]:
        """The wrong answers, in the order of the rows."""
        del predictions, rows
        return []

    @property
    def reader(self) -> Reader:
        """The half of it that needs no network, for use without torch.

        Raises:
            UsageError: it has none.
        """
        raise UsageError("no-export", f"'{self.name}' is not exported: it cannot be used without torch")

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of a row that hold its texts, in order."""
        return text_columns(self.settings)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a labelled file must have."""
        label = getattr(self.settings, "label_column", None)
        return self.text_columns if label is None else (*self.text_columns, label)

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes, in the order of the logits; `None` for tasks without classes."""
        return None

    @property
    def problem_type(self) -> str | None:
        """What transformers calls the loss of this task, where it has several for one head."""
        return None

    @property
    def files(self) -> dict[str, Any]:
        """Files that other libraries want beside those of every model folder, path to JSON."""
        return {}

    @classmethod
    def is_rising(cls, metric: str) -> bool:
        """Whether a score of this name is better the higher it is."""
        return metric not in cls.falling_metrics

    @property
    def needs_dropout(self) -> bool:
        """Whether it answers labelled rows by passes with dropout, which only the network of training makes."""
        return False

    @property
    def reads_all_layers(self) -> bool:
        """Whether it reads the output of other layers than the last."""
        return False

    def example(self, text: str) -> Row:
        """A row that asks this task about a text."""
        return dict.fromkeys(self.text_columns, text)

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pack features into one batch."""
        return pack(features, position_offset=self.config.position_offset)

    def answer(self, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """One pass of the network in use: `parts` of the logits."""
        return self.parts(self(batch), batch, features)

    @property
    def pools_mean(self) -> bool:
        """Whether the head, one of whole texts, reads the mean of all states of each in place of those `needed`."""
        return self.config.pools_mean(self.head_name)

    def encoded(self, batch: Batch, needed: Tensor | None = None) -> Tensor:
        """Last hidden states, (N, D) at the places that are needed, (T, D) without them."""
        return self.encoder(
            batch.input_ids,
            batch.position_ids,
            Layout.of(batch.cu_seqlens, batch.input_ids.device),
            token_type_ids=batch.token_type_ids,
            needed=needed,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits of one batch: (B, C) for labelled texts, (N, ...) where the head reads other places."""
        if self.pools_mean:
            hidden = mean_of_texts(self.encoded(batch).float(), batch)
        else:
            hidden = self.encoded(batch, self.needed(batch))
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
            is_like = model.config.pools_mean(model.head) == self.pools_mean
            kept += ("head.",) if is_like and (is_pooler or self.asks_like(model)) else ()
        given = {name: value for name, value in model.state_dict.items() if name.startswith(kept)}
        return sorted(self.take(given).missing_keys)

    def asks_like(self, model: Model) -> bool:
        """Whether a head of the same kind answers this task's question."""
        return model.labels == self.labels

    def take(self, weights: Mapping[str, Tensor]) -> Any:
        """Copy weights into the parameters; made on the device "meta", without memory, they become these tensors."""
        return self.load_state_dict(weights, strict=False, assign=next(self.parameters()).is_meta)
