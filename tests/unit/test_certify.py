"""The gate of lower precisions: what is lost is measured, and a product that cannot bear it is found and kept."""

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from unmask.certify import Certificate, certify, drop_of, sensitivities
from unmask.data.rows import Table
from unmask.engine.choice import NAMES, runs
from unmask.errors import UsageError
from unmask.model.encoder import Encoder
from unmask.predict import Predictor
from unmask.tasks.base import Task
from unmask.tasks.classification import Classification

WORDS = ("fine", "dull", "lovely", "awful", "bright", "grey", "great", "poor")


def texts() -> list[str]:
    return [f"a {one} and {other} film, {last}" for one in WORDS for other in WORDS for last in ("a joy", "a bore")]


def table(task: Task) -> Table:
    """Rows whose labels are what the task answers, so that its exact score is 1."""
    answers = Predictor(task).predict_rows([{"text": text} for text in texts()])
    rows = [{"text": text, "label": one.label} for text, one in zip(texts(), answers, strict=True)]
    assert {row["label"] for row in rows} == {"bad", "good"}, "the model tells texts apart"
    return Table(Path("rows.jsonl"), ("text", "label"), rows, list(range(1, len(rows) + 1)))


def sure(**changes: object) -> Classification:
    """A classifier with large random weights, whose answers hang on the text."""
    task = tiny.classifier(initializer_range=0.3, **changes)
    with torch.no_grad():
        task.head.out.bias.sub_(middle(task))
    return task


def middle(task: Task) -> torch.Tensor:
    """Median logits of the texts: without them about half of the texts get each class."""
    with torch.inference_mode():
        logits = task(task.collate(task.encode([{"text": text} for text in texts()])))
    return logits.median(0).values.clone()


def with_outlier() -> Classification:
    """A weight so large that int8 leaves nothing of its row's other weights; its input is never more than nothing."""
    task = sure()
    layer = task.encoder.layers[1]
    with torch.no_grad():
        layer.up.weight[0], layer.up.bias[0] = 0.0, -50.0
        layer.down.weight.mul_(4)
        layer.down.weight[:, 0] = 1e5
        task.head.out.bias.sub_(middle(task))
    return task


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_precision_that_loses_nothing_passes() -> None:
    task = sure(num_hidden_layers=1)
    encoder = task.encoder
    found = certify(task, table(task), max_drop=5.0, engine="torch", threads=1)
    assert [one.precision for one in found] == ["bfloat16", "int8"]
    assert task.encoder is encoder, "the task is as it was"
    for one in found:
        assert one.is_passed
        assert (one.exact_score, one.rows, one.keep) == (1.0, 128, {})
        assert one.agreement == pytest.approx(one.score), "the labels are the exact answers"
        assert one.drop == pytest.approx(100 - 100 * one.score)
        assert one.cosine > 0.99
        assert 0 < one.difference < one.golden["tolerance"]
        assert json.loads(json.dumps(one.to_json()))["engine"] == "torch"
    assert found == certify(task, table(task), max_drop=5.0, engine="torch", threads=1), "and the same each time"


@pytest.mark.parametrize("engine", [name for name in NAMES if runs(name, "int8", tiny.config())])
def test_the_one_product_that_cannot_bear_int8_is_kept(engine: str) -> None:
    task = with_outlier()
    rows = table(task)
    order = sensitivities(task, rows, "int8")
    assert next(iter(order)) == "1.down"
    assert len(order) == 8
    (blunt,) = certify(task, rows, ["int8"], max_drop=5.0, engine=engine, threads=1, has_search=False)
    assert not blunt.is_passed
    assert blunt.drop > 10
    (found,) = certify(task, rows, ["int8"], max_drop=5.0, engine=engine, threads=1)
    assert found.is_passed
    assert found.keep == {"1.down": "bfloat16" if runs(engine, "bfloat16", task.config) else "float32"}
    assert "kept more exact: 1.down" in str(found)


def test_the_search_ends_before_nothing_of_the_precision_is_left() -> None:
    task = with_outlier()
    (found,) = certify(task, table(task), ["int8"], max_drop=-1.0, engine="torch", threads=1)
    assert not found.is_passed
    assert len(found.keep) == 7


def test_looking_for_sensitive_products_changes_nothing() -> None:
    task = sure()
    before = [type(getattr(layer, name)) for layer in task.encoder.layers for name in ("qkv", "down")]
    rows = table(task)
    assert sensitivities(task, rows, "bfloat16") == sensitivities(task, rows, "bfloat16")
    assert [type(getattr(layer, name)) for layer in task.encoder.layers for name in ("qkv", "down")] == before
    assert isinstance(task.encoder, Encoder)


def test_float32_is_no_lower_precision() -> None:
    task = tiny.classifier()
    with pytest.raises(UsageError, match="compared with"):
        certify(task, Table(Path("none"), (), [], []), ["float32"])


@pytest.mark.parametrize(
    ("exact", "score", "higher", "drop"),
    [
        (0.9, 0.88, True, 2.0),  # points of a share
        (-0.1, -0.2, True, 10.0),  # a correlation
        (0.5, 0.6, True, -10.0),
        (60.0, 57.0, True, 5.0),  # per cent of chrF, which goes to 100
        (2.0, 2.1, False, 5.0),  # per cent of nats
        (0.5, 0.51, False, 2.0),
        (0.0, 0.0, False, 0.0),
        (0.0, 0.1, False, float("inf")),
    ],
)
def test_what_is_lost(exact: float, score: float, higher: bool, drop: float) -> None:
    assert drop_of(exact, score, higher_is_better=higher) == pytest.approx(drop)


def test_a_score_that_is_no_number_never_passes() -> None:
    blank: dict = {"keep": {}, "processor": "", "engine": "", "versions": {}, "golden": {}}
    one = Certificate(
        precision="int8", metric="spearman", exact_score=0.5, score=float("nan"), drop=drop_of(0.5, float("nan")),
        max_drop=0.5, agreement=None, cosine=1.0, difference=0.0, rows=2, **blank,
    )  # fmt: skip
    assert not one.is_passed


@pytest.mark.parametrize("make", [tiny.regression, tiny.tagger, tiny.embedder, tiny.multiple_choice])
def test_other_tasks_are_certified_too(make) -> None:
    task = make()
    rows = tiny.rows_of(task)
    whole = Table(Path("rows.jsonl"), tuple(rows[0]), rows, list(range(1, 9)))
    (found,) = certify(task, whole, ["bfloat16"], max_drop=100.0, engine="torch", threads=1, has_search=False)
    assert found.rows == 8
    assert (found.agreement is None) == (task.name in ("regression", "embedding"))
    assert sensitivities(task, whole, "int8")
