"""Classification and regression against the reference library: folders of either are opened by the other, with the
same logits and the same loss."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from tests import tiny
from tests.unit.tokenizer.samples import bert_folder
from unmask.checkpoint import load_model
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor, build_task
from unmask.tasks.base import Row, Task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.number_reader import RegressionSettings
from unmask.tasks.regression import Regression
from unmask.tokenizer.load import Tokenizer

LOGITS_TOLERANCE = 1e-5
LABELS = ("left", "middle", "right")
TEXTS = (*tiny.GOOD, *tiny.BAD)
ROWS: dict[str, list[Row]] = {
    "single": [{"text": text, "label": LABELS[at % 3]} for at, text in enumerate(TEXTS)],
    "several": [{"text": text, "label": "|".join(LABELS[: at % 4])} for at, text in enumerate(TEXTS)],
    "number": [{"text": text, "label": f"{at / 8}"} for at, text in enumerate(TEXTS)],
}
FAMILIES = ("bert", "roberta")


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(bert_folder(tmp_path_factory.mktemp("wordpiece") / "tokenizer"))


@pytest.fixture
def make(wordpiece: Tokenizer) -> Callable[[str, str], Task]:
    """A task of ours by the kind of its answers and the family of its encoder, every parameter random."""

    def made(kind: str, family: str) -> Task:
        tokenizer = wordpiece if family == "bert" else tiny.tokenizer()
        shape = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, "family": family}
        config: EncoderConfig = tiny.config(**shape, type_vocab_size=2 if family == "bert" else 1)
        if kind == "number":
            task: Task = Regression(config, tokenizer, RegressionSettings(label_column="label", head_dropout=0.0))
        else:
            settings = ClassificationSettings(labels=LABELS, multi_label=kind == "several", head_dropout=0.0)
            task = Classification(config, tokenizer, settings)
        task.init_weights(0)
        with torch.no_grad():
            for parameter in task.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return task.eval()

    return made


def padded(task: Task, rows: list[Row]) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Our rows as the reference takes them, and their labels."""
    features = task.encode(rows, is_training=True)
    ids = [torch.from_numpy(one.input_ids).long() for one in features]
    types = [torch.from_numpy(one.token_type_ids) if one.token_type_ids is not None else ids[0] * 0 for one in features]
    pad = torch.nn.utils.rnn.pad_sequence
    inputs = {
        "input_ids": pad(ids, batch_first=True, padding_value=task.tokenizer.pad_id),
        "attention_mask": pad([torch.ones_like(one) for one in ids], batch_first=True),
    }
    if features[0].token_type_ids is not None:
        inputs["token_type_ids"] = pad(types, batch_first=True).long()
    return inputs, np.array([one.label for one in features])


@torch.no_grad()
def assert_equal(task: Task, model: PreTrainedModel, rows: list[Row]) -> None:
    batch = task.collate(task.encode(rows, is_training=True))
    logits = task(batch)
    loss = task.loss(logits, batch) / batch.num_targets
    inputs, labels = padded(task, rows)
    want = model(**inputs, labels=torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)))
    torch.testing.assert_close(logits, want.logits, atol=LOGITS_TOLERANCE, rtol=0)
    torch.testing.assert_close(loss, want.loss, atol=LOGITS_TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ROWS)
def test_the_reference_opens_our_folder(
    make: Callable[[str, str], Task], kind: str, family: str, tmp_path: Path
) -> None:
    task = make(kind, family)
    model = AutoModelForSequenceClassification.from_pretrained(tiny.saved(task, tmp_path / "model")).eval()
    usual = {"several": "multi_label_classification", "number": "regression"}
    assert model.config.problem_type == usual.get(kind)
    assert list(model.config.id2label.values()) == task.labels
    assert_equal(task, model, ROWS[kind])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ROWS)
def test_we_open_a_folder_of_the_reference(
    make: Callable[[str, str], Task], kind: str, family: str, tmp_path: Path
) -> None:
    tokenizer = make(kind, family).tokenizer
    config_class, model_class = {
        "bert": (BertConfig, BertForSequenceClassification),
        "roberta": (RobertaConfig, RobertaForSequenceClassification),
    }[family]
    names = ("label",) if kind == "number" else LABELS
    config = config_class(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=tokenizer.pad_id,
        type_vocab_size=2 if family == "bert" else 1,
        id2label=dict(enumerate(names)),
        problem_type="multi_label_classification" if kind == "several" else None,
    )
    torch.manual_seed(2)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    task = build_task(load_model(tmp_path / "theirs"), options={"label_column": "label"})
    assert task.name == ("regression" if kind == "number" else "classification")
    assert_equal(task, model, ROWS[kind])
    answers = Predictor(task)(list(TEXTS))
    assert hasattr(answers[0], {"single": "label", "several": "labels", "number": "value"}[kind])


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_gives_the_probabilities_of_the_reference(multi_label: bool, tmp_path: Path) -> None:
    labels = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    task = Classification(tiny.config(), tiny.tokenizer(), ClassificationSettings(labels=labels, head_dropout=0.0))
    task.init_weights(0)
    with torch.no_grad():
        task.head.out.weight.mul_(30)
    folder = tiny.saved(task, tmp_path / "model")
    topics, template = ["film", "sport", "the weather"], "This is about {}."
    options = {"candidate_labels": topics, "template": template, "multi_label": multi_label}
    answers = Predictor.load(folder, task="zero_shot", options=options)(list(TEXTS))
    asked = pipeline("zero-shot-classification", model=str(folder), device="cpu")
    for text, answer in zip(TEXTS, answers, strict=True):
        want = asked(text, topics, hypothesis_template=template, multi_label=multi_label)
        assert answer.scores == pytest.approx(dict(zip(want["labels"], want["scores"], strict=True)), abs=1e-5)
