"""Sentence vectors against the reference library: mean and first-token pooling over padded batches, mixes of layers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests import tiny
from unmask.predict import Predictor
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings

TEXTS = [*tiny.GOOD, tiny.BAD[0], tiny.STORY, "x", "naïve café 你好 🙂"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.embedder(), tmp_path_factory.mktemp("embedding") / "model")


@pytest.mark.parametrize("layers", [(-1,), (0, 1, 2), (1,)])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@torch.inference_mode()
def test_pooled_vectors_equal_those_of_a_padded_batch(folder: Path, pooling: str, layers: tuple[int, ...]) -> None:
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    states = model(**inputs, output_hidden_states=True).hidden_states
    hidden = torch.stack([states[layer] for layer in layers]).mean(dim=0)
    mask = inputs["attention_mask"][:, :, None]
    want = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    task = Predictor.load(folder, engine="torch").task
    settings = EmbeddingSettings(pooling=pooling, layers=layers, normalize=False)
    ours = Embedding(task.config, task.tokenizer, settings)
    ours.load_state_dict(task.state_dict())
    found = torch.tensor([one.vector for one in Predictor(ours)(TEXTS)])
    torch.testing.assert_close(found, want, atol=TOLERANCE, rtol=0)
