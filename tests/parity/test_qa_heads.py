"""Question answering and multiple choice against the reference library: logits, loss, folders in both directions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    BertConfig,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    XLMRobertaConfig,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
)

from tests import tiny
from tests.unit.tokenizer.samples import folder_of
from unmask.checkpoint import load_model
from unmask.data.batching import Features
from unmask.data.questions import Answer
from unmask.predict import build_task
from unmask.tasks.base import Task
from unmask.tokenizer.load import Tokenizer

TOLERANCE = 1e-5
CLASSES = {
    "roberta": (RobertaConfig, RobertaForQuestionAnswering, RobertaForMultipleChoice),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForQuestionAnswering, XLMRobertaForMultipleChoice),
    "bert": (BertConfig, BertForQuestionAnswering, BertForMultipleChoice),
}
FAMILIES = sorted(CLASSES)
LONG = " ".join(f"The old sailor bought {number} apples." for number in range(12))
QUESTIONS = [
    {"question": "What did he buy?", "context": LONG, "answers": [Answer("apples", LONG.rindex("apples"))]},
    {"question": "Where?", "context": "In the quiet harbour.", "answers": [Answer("the quiet", 3)]},
    {"question": "Who?", "context": "Nothing was said.", "answers": [], "is_impossible": True},
]
CHOICES = [
    {"context": "The harbour was quiet.", "question": "How was it?", "choices": ["quiet", "loud", "wide"], "answer": 0},
    {
        "context": "",
        "question": "Two men walked on",
        "choices": ["the Moon that morning", "bread", "pears"],
        "answer": 2,
    },
]


def published(family: str, is_choice: bool, folder: Path) -> PreTrainedModel:
    """A folder as the reference library writes it, every weight random."""
    config_class, *kinds = CLASSES[family]
    folder_of(family, folder)
    tokenizer = Tokenizer.load(folder)
    is_bert = family == "bert"
    config = config_class(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64 if is_bert else 66, type_vocab_size=2 if is_bert else 1,
        pad_token_id=tokenizer.pad_id, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(3)
    model = kinds[is_choice](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval().save_pretrained(folder)
    return model


def padded(features: list[Features], task: Task) -> dict[str, torch.Tensor]:
    """Keyword arguments for the reference: (B, S) ids, types and mask."""
    size = max(len(one) for one in features)
    ids = torch.full((len(features), size), task.tokenizer.pad_id)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for at, one in enumerate(features):
        ids[at, : len(one)] = torch.from_numpy(one.input_ids.astype(np.int64))
        mask[at, : len(one)] = 1
        if one.token_type_ids is not None:
            types[at, : len(one)] = torch.from_numpy(one.token_type_ids.astype(np.int64))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def both(task: Task, model: PreTrainedModel, rows: list[dict[str, Any]], is_choice: bool) -> None:
    """Compare logits and mean loss of our task and of the reference on the same rows."""
    features = task.encode(rows, is_training=True)
    batch = task.collate(features)
    given = padded(features, task)
    with torch.no_grad():
        logits = task(batch)
        loss = task.loss(logits, batch) / batch.num_targets
        if is_choice:
            shaped = {name: value.view(len(rows), -1, value.shape[1]) for name, value in given.items()}
            wanted = model(**shaped, labels=batch.labels - torch.arange(len(rows)) * shaped["input_ids"].shape[1])
            expected = wanted.logits.view(-1, 1)
        else:
            starts, ends = batch.labels.T
            wanted = model(**given, start_positions=starts, end_positions=ends)
            # padding is in the reference's softmax with its own logits, and in none of ours
            mask = given["attention_mask"].bool()
            expected = torch.stack([wanted.start_logits[mask], wanted.end_logits[mask]], dim=1)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)
    if is_choice:
        torch.testing.assert_close(loss, wanted.loss, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_choice", [False, True], ids=["span_qa", "multiple_choice"])
def test_a_published_folder_gives_the_same_logits_and_ours_opens_there(
    family: str, is_choice: bool, tmp_path: Path
) -> None:
    model = published(family, is_choice, tmp_path / "published")
    task = build_task(load_model(tmp_path / "published"))
    assert task.name == ("multiple_choice" if is_choice else "span_qa")
    rows = CHOICES if is_choice else QUESTIONS
    both(task, model, rows, is_choice)
    tiny.saved(task, tmp_path / "ours")
    auto = AutoModelForMultipleChoice if is_choice else AutoModelForQuestionAnswering
    again, info = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert type(again) is type(model)
    both(build_task(load_model(tmp_path / "ours")), again.eval(), rows, is_choice)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_questions_is_the_reference_s_one_window_at_a_time(family: str, tmp_path: Path) -> None:
    model = published(family, False, tmp_path / "published")
    task = build_task(load_model(tmp_path / "published"))
    features = task.encode(QUESTIONS, is_training=True)
    batch = task.collate(features)
    assert len(features) > len(QUESTIONS)
    losses = []
    with torch.no_grad():
        for one in features:
            start, end = torch.from_numpy(one.label[:, None])
            losses.append(model(**padded([one], task), start_positions=start, end_positions=end).loss)
        ours = task.loss(task(batch), batch)
    torch.testing.assert_close(ours, torch.stack(losses).sum(), atol=TOLERANCE * len(losses), rtol=0)
