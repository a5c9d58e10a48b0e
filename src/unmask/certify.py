"""What a lower precision costs a model, measured on labelled rows; and which products must stay more exact for it.

The scores come from `evaluate`, the code that users call. Weights are never changed: a precision is a way to compute,
and the certificate says that it was tried.
"""

import contextlib
import copy
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from unmask.data.batching import Features
from unmask.data.rows import Table
from unmask.engine.choice import Engine, choose, install, runs
from unmask.engine.portable import PRODUCTS, lowered
from unmask.errors import UsageError
from unmask.evaluate import Evaluation, evaluate
from unmask.golden import make_golden
from unmask.predict import Predictor
from unmask.runtime import processor
from unmask.tasks.base import Task

log = logging.getLogger("unmask")

PRECISIONS = ("bfloat16", "int8")
MAX_DROP = 0.5
_SAMPLE_TOKENS = 2048  # of the dev rows on which each product is tried alone
_SECTION = re.compile(r"\n## Precisions\n.*?(?=\n## |\Z)", re.DOTALL)
_LIBRARIES = ("unmask", "torch", "numpy")
# Of the greatest exact logit: kernels of one precision differ that much between processors.
_KERNELS_DIFFER = 0.02


@dataclass(frozen=True)
class Certificate:
    """What was measured of one precision on labelled rows; the same each time on the same machine.

    Attributes:
        precision: bfloat16 or int8.
        metric: the task's main one.
        exact_score: its value in float32.
        score: its value in this precision.
        drop: what is lost, as `drop_of` counts it; negative for a gain.
        max_drop: the limit that was asked for.
        agreement: share of rows with the same answer as in float32; `None` where answers are numbers.
        cosine: of the logits of the golden texts and the exact ones.
        difference: greatest one of these logits.
        rows: labelled rows that were answered.
        keep: products that are computed more exactly, such as {"3.down": "bfloat16"}.
        processor: on which it was measured.
        engine: that computed.
        versions: of the libraries.
        golden: texts, ids and logits in this precision, with their tolerance, for `unmask verify`.
    """

    precision: str
    metric: str
    exact_score: float
    score: float
    drop: float
    max_drop: float
    agreement: float | None
    cosine: float
    difference: float
    rows: int
    keep: Mapping[str, str]
    processor: str
    engine: str
    versions: Mapping[str, str]
    golden: Mapping[str, Any] = field(repr=False)

    @property
    def is_passed(self) -> bool:
        """Whether the precision loses no more than the limit; a score that is no number never passes."""
        return self.drop <= self.max_drop

    def to_json(self) -> dict[str, Any]:
        """All but the golden texts, as JSON values: what `unmask.json` keeps."""
        return {name: value for name, value in asdict(self).items() if name != "golden"}

    def __str__(self) -> str:
        kept = f", kept more exact: {', '.join(self.keep)}" if self.keep else ""
        same = "" if self.agreement is None else f", {self.agreement:.2%} equal answers"
        return (
            f"{self.precision}: {self.metric} {self.score:.4f}, exact {self.exact_score:.4f}, loses {self.drop:.2f} of "
            f"at most {self.max_drop:g} on {self.rows:,} dev rows{same}, cosine of logits {self.cosine:.5f}{kept}"
        )


def certify(
    task: Task,
    table: Table,
    precisions: Sequence[str] = PRECISIONS,
    *,
    max_drop: float = MAX_DROP,
    engine: str = "auto",
    threads: int | None = None,
    has_search: bool = True,
) -> list[Certificate]:
    """Measure precisions of a model on labelled rows; the task is as before when this ends.

    Where a precision loses too much, the products that change the hidden states most are kept more exact, one after
    the other, until it does not or none is left.

    Args:
        task: float32 weights on the CPU, with the encoder of training.
        table: labelled rows that the model has not learned from.
        precisions: of `bfloat16` and `int8`.
        max_drop: most that may be lost, in points of a share (else in per cent, see `drop_of`).
        engine: that computes; by default the fastest for each precision here.
        threads: of one pass.
        has_search: whether to look for products to keep.

    Returns:
        One a precision, in order, passed or not.

    Raises:
        UsageError: a precision is not one of these two; the task's scores need dropout.
        DataError: a row cannot be answered; its line is named.
        ResourceError: the engine does not run in this precision here.
    """
    if wrong := [one for one in precisions if one not in PRECISIONS]:
        raise UsageError(
            "not-a-lower-precision",
            f"'{wrong[0]}' is not a precision to measure: float32 is what the others are compared with",
            place="--precision",
            expected=" or ".join(PRECISIONS),
        )
    if task.needs_dropout:
        raise UsageError(
            "no-exact-scores",
            "scores of plain texts (SimCSE) are of passes with dropout, so they do not show what a precision costs",
            remedy="measure on pairs or scored pairs",
        )
    plan = {one: choose(task.config, name=engine, precision=one, threads=threads) for one in precisions}
    gate = _Gate(task, table, max_drop, choose(task.config, precision="float32", threads=threads))
    return [gate.search(one) if has_search else gate.measure(one) for one in plan.values()]


def drop_of(exact: float, score: float, *, higher_is_better: bool = True) -> float:
    """What is lost from `exact` to `score`; negative for a gain.

    A share or a correlation (higher is better, at most 1) counts in points: hundredths. Anything else, such as nats a
    token, has no such scale and counts in per cent of the exact score.
    """
    lost = exact - score if higher_is_better else score - exact
    is_share = higher_is_better and abs(exact) <= 1 and abs(score) <= 1
    if is_share or lost == 0:
        return 100 * lost
    return 100 * lost / abs(exact) if exact else float(np.copysign(np.inf, lost))


def card_lines(certificates: Sequence[Certificate]) -> list[str]:
    """The section of a model card about certified precisions."""
    if not certificates:
        return []
    return [
        "## Precisions",
        "",
        "The weights are float32. unmask computes in the fastest of these precisions where nothing else is asked for:",
        "",
        *(f"* {one} ({one.engine}, {one.processor})" for one in certificates),
        "",
    ]


def without_precisions(card: str) -> str:
    """A model card without that section, as for other weights or other certificates."""
    return _SECTION.sub("", card).rstrip()


def sensitivities(task: Task, table: Table, precision: str) -> dict[str, float]:
    """How much the last hidden states change when one product alone is computed in a precision.

    Args:
        task: float32 weights with the encoder of training.
        table: rows of which an even sample is encoded.
        precision: bfloat16 or int8.

    Returns:
        The length of the change over the length of the states, by product such as `3.down`, the greatest first.
    """
    batch = task.eval().collate(sample(task, table))
    return changes(task.encoder.layers, PRODUCTS, precision, lambda: task.encoded(batch))


@torch.inference_mode()
def changes(
    layers: Iterable[nn.Module], products: Sequence[str], precision: str, compute: Callable[[], torch.Tensor]
) -> dict[str, float]:
    """How much a result changes when one product of the layers alone is in a precision, as `sensitivities` tells it.

    Args:
        layers: that have part in it; they are as before when this ends.
        products: names of their linear layers, in float32.
        precision: bfloat16 or int8.
        compute: gives the result.
    """
    exact = compute()
    found = {}
    for number, layer in enumerate(layers):
        for name in products:
            product = getattr(layer, name)
            setattr(layer, name, lowered(product, precision))
            try:
                found[f"{number}.{name}"] = float((compute() - exact).norm() / exact.norm())
            finally:
                setattr(layer, name, product)
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def sample(task: Task, table: Table) -> list[Features]:
    """Features of rows that lie evenly in a table, about `_SAMPLE_TOKENS` tokens of them."""
    features = task.encode(table.rows, place=table.place, is_training=True)
    total = sum(len(one) for one in features)
    step = max(1, round(total / _SAMPLE_TOKENS))
    if not task.is_coupled:
        return features[::step]
    return [one for one in features if one.row % step == 0]  # the texts of a row stand together


class _Gate:
    """The exact side of all comparisons, measured once.

    Args:
        task: to be measured.
        table: labelled rows.
        max_drop: limit.
        exact: the engine of the exact side.
    """

    def __init__(self, task: Task, table: Table, max_drop: float, exact: Engine) -> None:
        self.task, self.table, self.max_drop = task, table, max_drop
        self.predictor = Predictor(task)
        self.exact, self.golden = self._run(exact)

    def search(self, engine: Engine) -> Certificate:
        """Measure an engine, and keep products more exact until it passes; the first that passes, or else the last."""
        found = self.measure(engine)
        if found.is_passed:
            return found
        log.info("%s", found)
        order = sensitivities(self.task, self.table, engine.precision)
        has_finer = engine.precision == "int8" and runs(engine.name, "bfloat16", self.task.config)
        finer = "bfloat16" if has_finer else "float32"
        for number in range(1, len(order)):
            kept = dict.fromkeys(list(order)[:number], finer)
            found = self.measure(replace(engine, keep=kept))
            log.info("%s", found)
            if found.is_passed:
                break
        return found

    def measure(self, engine: Engine) -> Certificate:
        """What an engine gives, beside the exact side."""
        got, golden = self._run(engine)
        exact = _logits(self.golden)
        logits = _logits(golden)
        difference = float(np.abs(logits - exact).max())
        tolerance = max(2 * difference, _KERNELS_DIFFER * max(1.0, float(np.abs(exact).max())))
        drop = drop_of(self.exact.main_score, got.main_score, higher_is_better=self.task.is_rising(got.main_metric))
        return Certificate(
            precision=engine.precision,
            metric=got.main_metric,
            exact_score=self.exact.main_score,
            score=got.main_score,
            drop=drop,
            max_drop=self.max_drop,
            agreement=_agreement(self.exact.predictions, got.predictions),
            cosine=_cosine(logits, exact),
            difference=difference,
            rows=got.rows,
            keep=dict(engine.keep),
            processor=processor(),
            engine=engine.name,
            versions={name: version(name) for name in _LIBRARIES},
            golden=golden | {"tolerance": tolerance, "engine": engine.name},
        )

    def _run(self, engine: Engine) -> tuple[Evaluation, dict[str, Any]]:
        with computed_by(self.task, engine):
            return evaluate(self.predictor, self.table), make_golden(self.task)


@contextlib.contextmanager
def computed_by(task: Task, engine: Engine) -> Iterator[None]:
    """Let an engine compute a task's encoder inside the block.

    Args:
        task: with the encoder of training, in float32; its embedding tables are shared with the engine, not copied.
        engine: that runs here.
    """
    encoder = task.encoder
    task.encoder = copy.deepcopy(encoder, {id(encoder.embeddings): encoder.embeddings})
    try:
        install(task, engine)
        yield
    finally:
        task.encoder = encoder


def _logits(golden: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(one["logits"], dtype=np.float64) for one in golden["texts"]])


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 1.0


def _agreement(exact: Sequence[Any], got: Sequence[Any]) -> float | None:
    """Share of equal answers; the first field of a prediction is its answer, the others say how sure it is."""
    pairs = [tuple(getattr(one, fields(one)[0].name) for one in pair) for pair in zip(exact, got, strict=True)]
    if isinstance(pairs[0][0], float | list):  # a number or a vector, which is never quite the same
        return None
    return sum(_words(one) == _words(other) for one, other in pairs) / len(pairs)


def _words(answer: Any) -> Any:
    """An answer without the numbers that say how sure it is."""
    if is_dataclass(answer):
        return tuple(_words(getattr(answer, one.name)) for one in fields(answer))
    if isinstance(answer, tuple):
        return tuple(map(_words, answer))
    return None if isinstance(answer, float) else answer
