"""Sentence vectors against the reference library: mean and first-token pooling over padded batches, mixes of layers."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer

from tests import tiny
from unmask.checkpoint import load_model
from unmask.errors import ArtefactError
from unmask.predict import Predictor
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings
from unmask.train.job import read_job

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


def ours(folder: Path) -> np.ndarray:
    return np.array([one.vector for one in Predictor.load(folder, engine="torch")(TEXTS)])


@pytest.mark.parametrize(
    "settings", [{}, {"pooling": "cls", "normalize": False}, {"max_length": 8, "long_texts": "cut"}]
)
def test_sentence_transformers_opens_our_folder(tmp_path: Path, settings: dict) -> None:
    task = Embedding(tiny.config(), tiny.tokenizer(), EmbeddingSettings.model_validate(settings))
    task.init_weights(0)
    folder = tiny.saved(task, tmp_path / "model")
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours(folder), theirs, atol=TOLERANCE)
    if not settings:
        np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=TOLERANCE)


@pytest.mark.parametrize("is_normal", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_folders_of_sentence_transformers_are_opened(
    folder: Path, tmp_path: Path, pooling: str, is_normal: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No training is missed in such a folder, so that is not warned of; its own pooling and limit are taken."""
    body = Transformer(str(folder), max_seq_length=9)
    parts = [body, Pooling(body.get_embedding_dimension(), pooling_mode=pooling), *([Normalize()] if is_normal else [])]
    model = SentenceTransformer(modules=parts, device="cpu")
    model.save(str(tmp_path / "theirs"))
    np.testing.assert_allclose(ours(tmp_path / "theirs"), model.encode(TEXTS), atol=TOLERANCE)
    assert "not trained for sentence vectors" not in caplog.text
    assert "cut off" in caplog.text


OTHERS = {
    "max": "its pooling is max",
    "dense": "the parts Transformer, Pooling, Dense",
    "prompt": "the prompt 'query' before each text",
}


@pytest.mark.parametrize("part", OTHERS)
def test_other_vectors_are_refused_and_the_encoder_is_not(folder: Path, tmp_path: Path, part: str) -> None:
    body = Transformer(str(folder))
    width = body.get_embedding_dimension()
    more = [Dense(width, 4)] if part == "dense" else []
    pooling = Pooling(width, pooling_mode="max" if part == "max" else "mean")
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"} if part == "prompt" else {}
    SentenceTransformer(modules=[body, pooling, *more], device="cpu", **prompts).save(str(tmp_path / "theirs"))
    for task in (None, "embedding"):
        with pytest.raises(ArtefactError, match=OTHERS[part]):
            Predictor.load(tmp_path / "theirs", task=task)
    assert load_model(tmp_path / "theirs").config.hidden_size == width


def test_training_goes_on_with_the_pooling_of_the_folder(folder: Path, tmp_path: Path) -> None:
    body = Transformer(str(folder))
    model = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "cls")], device="cpu")
    model.save(str(tmp_path / "theirs"))
    rows = tmp_path / "pairs.tsv"
    rows.write_text("anchor\tpositive\n" + "".join(f"{a}\t{b}\n" for a, b in itertools.permutations(tiny.GOOD, 2)))
    job, _ = read_job(rows, model=tmp_path / "theirs", task="embedding")
    assert (job.options.pooling, job.options.normalize, job.options.long_texts) == ("cls", False, "cut")
    assert any("as in theirs: pooling cls" in note for note in job.notes)
    given = ({"options": {"pooling": "mean"}},)
    assert read_job(rows, model=tmp_path / "theirs", task="embedding", given=given)[0].options.pooling == "mean"
