"""Tagging against the reference library: same weights, same logits, same loss; our folder opens there, and its here."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, BertForTokenClassification, RobertaForTokenClassification
from transformers.utils import logging

from tests import tiny
from unmask.checkpoint import load_model
from unmask.data.spans import Span
from unmask.predict import Predictor, build_task
from unmask.tasks.tag_reader import TaggingSettings
from unmask.tasks.tagging import Tagging

LOGIT_TOLERANCE = 1e-5
ROWS = [
    {"text": "Anna saw New York", "words": None, "spans": [Span(0, 4, "PER"), Span(9, 17, "LOC")]},
    {"text": "nobody came", "words": None, "spans": []},
    {"text": "Bob, Bob and wonderful Bob!", "words": None, "spans": [Span(0, 3, "PER"), Span(5, 8, "PER")]},
]


def tagger(*, family: str = "roberta", **changes: object) -> Tagging:
    settings = TaggingSettings.model_validate({"labels": ("LOC", "PER"), "scheme": "bio"} | changes)
    kinds = {"family": family, "type_vocab_size": 2 if family == "bert" else 1}
    task = Tagging(tiny.config(**kinds), tiny.tokenizer(), settings)
    task.init_weights(0)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return task.eval()


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_logits_and_loss_equal_the_reference(family: str, tmp_path: Path) -> None:
    task = tagger(family=family)
    folder = tiny.saved(task, tmp_path / "model")
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    assert type(model) is (BertForTokenClassification if family == "bert" else RobertaForTokenClassification)
    assert [model.config.id2label[index] for index in range(5)] == task.labels
    features = task.encode(ROWS, is_training=True)
    batch = task.collate(features)
    with torch.inference_mode():
        logits = task(batch)
        want, losses = [], 0.0
        for one in features:
            ids = torch.from_numpy(one.input_ids).long()[None]
            labels = torch.full(ids.shape, -100)
            labels[0, one.pieces[:, 0]] = torch.from_numpy(one.tags)
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
            want.append(out.logits[0, one.pieces[:, 0]])
            losses += float(out.loss) * len(one.tags)
    torch.testing.assert_close(logits, torch.cat(want), atol=LOGIT_TOLERANCE, rtol=0)
    assert float(task.loss(logits, batch)) == pytest.approx(losses, rel=LOGIT_TOLERANCE)
    assert batch.num_targets == sum(len(one.tags) for one in features)


def test_a_folder_of_the_reference_answers_here(tmp_path: Path) -> None:
    task = tagger()
    folder = tiny.saved(task, tmp_path / "model")
    model = AutoModelForTokenClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path / "theirs")
    tiny.tokenizer().save(tmp_path / "theirs")
    loaded = Predictor.load(tmp_path / "theirs", engine="torch")
    assert loaded.task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert loaded.task.settings.scheme == "bio"
    assert loaded.predict_rows(ROWS) == Predictor(task).predict_rows(ROWS)


def test_a_chain_of_tags_is_kept_and_does_not_disturb_the_reference(tmp_path: Path) -> None:
    task = tagger(crf=True)
    folder = tiny.saved(task, tmp_path / "model")
    again = build_task(load_model(folder))
    assert torch.equal(again.head.crf["transitions"], task.head.crf["transitions"])
    assert Predictor(again).predict_rows(ROWS) == Predictor(task).predict_rows(ROWS)
    logging.set_verbosity_error()  # it reports the chain's weights as unexpected ones
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert torch.equal(model.classifier.weight, task.head.out.weight)
