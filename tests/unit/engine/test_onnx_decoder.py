"""The graph of a writer against the readable decoder: at every step, for hypotheses that change places and sources
that leave."""

import itertools

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.data.features import padded
from unmask.model.layout import Layout
from unmask.model.writing import Writing
from unmask.tasks.seq2seq import Seq2Seq
from unmask.tasks.text_reader import Seq2SeqSettings

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from unmask.engine.onnx_heads import task_graph  # noqa: E402
from unmask.engine.onnx_run import Runner  # noqa: E402

EXACT = 2e-5  # float32 sums of another order, logits of size 10
TEXTS = ("a fine film", "grey", "a dull and awful film with poor acting")
BERT = {"family": "bert", "type_vocab_size": 2, "pad_token_id": 0}


def writer(shape: dict, **settings: object) -> Seq2Seq:
    """With biases and norms away from 0 and 1."""
    known = {"text_column": "text", "max_target_length": 16} | settings
    config = tiny.config(initializer_range=0.2, num_hidden_layers=3, **shape)
    task = Seq2Seq(config, tiny.tokenizer(), Seq2SeqSettings.model_validate(known))
    task.init_weights(0)
    generator = torch.Generator().manual_seed(0)
    for parameter in task.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return task.eval().requires_grad_(False)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("shape", [{}, BERT], ids=["roberta", "bert"])
@pytest.mark.parametrize("settings", [{}, {"share_embeddings": False, "num_decoder_layers": 2}], ids=["shared", "own"])
def test_the_graph_writes_as_the_network_does(settings: dict, shape: dict, num_beams: int) -> None:
    task = writer(shape, **settings)
    content = task_graph(task, "float32")
    onnx.checker.check_model(onnx.load_from_string(content))
    features = task.encode([{"text": text} for text in TEXTS])
    batch = task.collate(features)
    slow = task.head.start(task.encoded(batch), Layout.of(batch.cu_seqlens), num_beams)
    fast = Writing(Runner(content, 1), task.config, padded(features), depth=task.reader.depth, num_beams=num_beams)
    generator = np.random.default_rng(0)
    num_sources = len(TEXTS)
    for left in (None, None, [0, 2], None, [1], None):
        tokens = generator.integers(4, task.config.vocab_size, num_sources * num_beams)
        wanted = slow.step(torch.from_numpy(tokens)).numpy()
        assert np.abs(np.diff(wanted, axis=0)).max(initial=1) > 0.1, "hypotheses differ"
        np.testing.assert_allclose(fast.step(tokens), wanted, atol=EXACT)
        kept = np.arange(num_sources) if left is None else np.array(left)
        hypotheses = (kept[:, None] * num_beams + generator.integers(0, num_beams, (len(kept), num_beams))).ravel()
        for writing in (slow, fast):
            writing.select(hypotheses, None if left is None else kept)
        num_sources = len(kept)


def test_int8_stays_near_and_does_not_depend_on_the_company() -> None:
    task = writer({})
    exact, content = Runner(task_graph(task, "float32"), 1), task_graph(task, "int8")
    rough = Runner(content, 1)
    features = task.encode([{"text": text, "target": other} for text, other in itertools.pairwise(TEXTS)])
    wanted, found = (task.reader.logits(network, features) for network in (exact, rough))
    assert 0 < np.abs(found - wanted).mean() < 0.05 * wanted.std()
    together, alone = (
        Writing(rough, task.config, padded(some), depth=3).step(np.array([10, 11][: len(some)]))
        for some in (features, features[:1])
    )
    np.testing.assert_allclose(alone[0], together[0], atol=EXACT)


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_table_is_written_once(share: bool) -> None:
    task = writer({}, share_embeddings=share)
    weights = onnx.load_from_string(task_graph(task, "int8")).graph.initializer
    table = [task.config.vocab_size, task.config.hidden_size]
    assert sum(list(one.dims) == table for one in weights) == (1 if share else 2)
