"""A head on the mean of a text's states."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from unmask.checkpoint import load_model
from unmask.model.convert import from_hf
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification


def test_it_reads_the_mean_of_all_states_of_each_text() -> None:
    task = tiny.classifier(classifier_pooling="mean").eval()
    features = task.encode(tiny.rows_of(task))
    with torch.inference_mode():
        logits = task(task.collate(features))
        for at, one in enumerate(features):
            states = task.encoded(task.collate([one]))
            torch.testing.assert_close(logits[at], task.head(states.mean(dim=0)), atol=1e-5, rtol=0)
    first = tiny.classifier().eval()
    first.load_state_dict(task.state_dict())
    with torch.inference_mode():
        assert (first(first.collate(features)) - logits).abs().max() > 1e-3


def test_a_choice_on_the_mean_is_known_by_its_names(tmp_path: Path) -> None:
    task = tiny.multiple_choice(classifier_pooling="mean")
    folder = tiny.saved(task, tmp_path / "model")
    found = from_hf(load_file(folder / "model.safetensors"), task.config)
    assert (found.head, found.missing) == ("multiple_choice", [])


def test_published_classes_do_not_read_its_head_as_their_own(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    task = tiny.classifier(classifier_pooling="mean")
    folder = tiny.saved(task, tmp_path / "model")
    _, told = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert any(name.startswith("classifier.") for name in told["missing_keys"])
    assert any(name.startswith("mean_classifier.") for name in told["unexpected_keys"])
    found = from_hf(load_file(folder / "model.safetensors"), task.config)  # without a word of which head it is
    assert (found.head, found.missing) == ("classification", [])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_head_is_kept_where_it_reads_the_same(pooling: str, tmp_path: Path) -> None:
    model = load_model(tiny.saved(tiny.classifier(classifier_pooling="mean"), tmp_path / "model"))
    config = model.config.model_copy(update={"classifier_pooling": pooling})
    settings = ClassificationSettings(labels=("bad", "good"))
    fresh = Classification(config, model.tokenizer, settings).load_weights(model)
    assert bool(fresh) == (pooling == "cls")
