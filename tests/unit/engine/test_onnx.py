"""The graph for onnxruntime against the readable network; what is refused; memory that does not grow."""

import gc
import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.engine import onnx_graph, onnx_run, onnx_size, portable
from unmask.engine.choice import runs
from unmask.engine.portable import change_products
from unmask.errors import ArtefactError, ResourceError, UsageError
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout
from unmask.runtime import trim_heap

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from unmask.engine.onnx import OnnxEncoder  # noqa: E402

EXACT = 1e-5  # float32 sums of another order, hidden states of size 1
TWIN = 5e-3  # int8 numbers of the same rule: a rounding that falls the other way is 1/127 of a row's greatest number
MEGABYTES = 15  # of noise; one batch of the test takes more than 50
LENGTHS = (5, 9, 64, 1, 33, 32, 30, 12, 3)


def encoder(**changes: object) -> Encoder:
    sizes = {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 96}
    made = Encoder(EncoderConfig(**({"vocab_size": 50, "max_length": 64} | sizes | changes))).eval()
    made.init_weights(0)
    with torch.no_grad():
        for parameter in made.parameters():  # biases and norms away from 0 and 1, weights large enough to matter
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return made


def inputs(*lengths: int, network: Encoder) -> tuple[tuple[torch.Tensor, torch.Tensor, Layout], torch.Tensor | None]:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = torch.randint(3, 50, (int(starts[-1]),))
    positions = torch.cat([torch.arange(length) + network.config.position_offset for length in lengths])
    types = torch.randint(0, 2, ids.shape) if network.config.type_vocab_size > 1 else None
    return (ids, positions, Layout.of(starts)), types


@pytest.mark.parametrize("family", ["roberta", "bert"])
@torch.inference_mode()
def test_float32_equals_the_network(family: str) -> None:
    slow = encoder(**({"family": "bert", "type_vocab_size": 2, "pad_token_id": 0} if family == "bert" else {}))
    fast, deep = (OnnxEncoder(slow, "float32", threads=1, has_states=has_states) for has_states in (False, True))
    batch, types = inputs(*LENGTHS, network=slow)
    wanted = slow(*batch, token_type_ids=types)
    torch.testing.assert_close(fast(*batch, token_type_ids=types), wanted, atol=EXACT, rtol=EXACT)
    torch.testing.assert_close(deep(*batch, token_type_ids=types), wanted, atol=EXACT, rtol=EXACT)
    needed = torch.tensor([3, 100, 0, 40])
    found = fast(*batch, token_type_ids=types, needed=needed)
    torch.testing.assert_close(found, wanted[needed], atol=EXACT, rtol=EXACT)
    states = deep.hidden_states(*batch, token_type_ids=types)
    for ours, theirs in zip(states, slow.hidden_states(*batch, token_type_ids=types), strict=True):
        torch.testing.assert_close(ours, theirs, atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("levels", [127, 63])
@torch.inference_mode()
def test_int8_is_what_the_readable_twin_computes(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if levels == 127 and onnx_run.saturates():
        pytest.skip("sums of 8-bit weights overflow on this processor")
    monkeypatch.setattr(onnx_graph, "saturates", lambda: levels == 63)
    monkeypatch.setattr(portable, "_LEVELS", levels)
    slow = encoder()
    batch, _ = inputs(*LENGTHS, network=slow)
    exact, fast = slow(*batch), OnnxEncoder(slow, "int8", threads=1)(*batch)
    kept = OnnxEncoder(slow, "int8", threads=1, keep=dict.fromkeys(["0.down", "1.down", "1.up"], "float32"))(*batch)
    twin = change_products(slow, "int8")(*batch)
    assert (fast - twin).abs().mean() < TWIN < (fast - exact).abs().max()
    assert (kept - exact).abs().mean() < 0.9 * (fast - exact).abs().mean(), "products that are kept are exact"


@pytest.mark.parametrize("precision", ["float32", "int8"])
@torch.inference_mode()
def test_a_text_is_the_same_alone_and_in_a_batch(precision: str) -> None:
    slow = encoder()
    with torch.no_grad():
        slow.embeddings.word.weight[3] *= 100  # a token whose numbers would change the scale of all others
    fast = OnnxEncoder(slow, precision, threads=1)
    (ids, positions, layout), _ = inputs(*LENGTHS, network=slow)
    ids[:] = ids.clamp(min=4)
    ids[20] = 3
    together = fast(ids, positions, layout)
    bounds = np.concatenate([[0], np.cumsum(LENGTHS)])
    for start, end in itertools.pairwise(bounds):
        alone = fast(ids[start:end], positions[start:end], Layout.of(np.array([0, end - start])))
        torch.testing.assert_close(alone, together[start:end], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_text_that_is_too_long_is_refused() -> None:
    slow = encoder()
    with pytest.raises(ValueError, match="65 tokens; the model takes 64"):
        OnnxEncoder(slow, "float32", threads=1)(*inputs(65, network=slow)[0])


def test_the_whole_graph_has_the_usual_inputs_and_outputs() -> None:
    slow = encoder()
    graph, states = onnx_graph.build(slow, "float32")
    content = graph.model({"last_hidden_state": (graph.padded(states[-1]), ("batch", "length", 48))})
    onnx.checker.check_model(onnx.load_from_string(content))
    run = onnx_run.Runner(content, 1)
    assert (run.inputs, run.outputs) == (("input_ids", "attention_mask"), ("last_hidden_state",))
    ids = np.random.default_rng(0).integers(3, 50, (2, 7))
    mask = np.ones_like(ids)
    mask[1, 4:] = 0
    (found,) = run({"input_ids": ids, "attention_mask": mask})
    with torch.inference_mode():
        second = slow(torch.from_numpy(ids[1, :4]), torch.arange(4) + 2, Layout.of(np.array([0, 4])))
    np.testing.assert_allclose(found[1, :4], second.numpy(), atol=EXACT)


def test_weights_have_seven_bits_where_sums_of_eight_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(8, 16)
    for levels in (127, 63):
        monkeypatch.setattr(onnx_graph, "saturates", lambda levels=levels: levels == 63)
        assert onnx_graph.build(encoder(), "int8")[0].levels == levels
        values, scale = onnx_graph.weights_int8(weight, levels)
        assert np.abs(values).max() == levels
        np.testing.assert_allclose(values.T * scale[:, None], weight.numpy(), atol=float(scale.max()) * 0.51)


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("sse avx2", "x86_64", True),
        ("avx512f avx512_vnni", "x86_64", False),
        ("avx2 avx_vnni", "x86_64", False),
        (None, "x86_64", True),
        (None, "aarch64", False),
    ],
)
def test_processors_whose_products_overflow(
    flags: str | None, machine: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}")
    assert onnx_run.saturates(tmp_path / "cpuinfo") is expected


@torch.inference_mode()
def test_the_memory_of_a_large_batch_is_given_back() -> None:
    network = encoder(hidden_size=96, intermediate_size=384, max_length=256)
    fast = OnnxEncoder(network, "float32", threads=1)

    def held_after(*batches: tuple[int, int]) -> int:
        for texts, length in batches:
            fast(*inputs(*[length] * texts, network=network)[0])
        gc.collect()
        trim_heap()  # what onnxruntime keeps is no part of it; other tests tell glibc to keep what is freed
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() >> 20

    usual = [(1024 // length, length) for length in range(8, 256, 16)]
    before = held_after(*usual)
    assert held_after((96, 128), *usual) - before < MEGABYTES
    assert held_after(*usual, *usual) - before < MEGABYTES


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    graph, states = onnx_graph.build(encoder(), "float32")
    model = onnx.load_from_string(graph.model({"last_hidden_state": (states[-1], ("rows", 48))}))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert onnx_run.read_graph(path) == path.read_bytes()
    onnx.save(model, path, save_as_external_data=True, location="secret.bin", size_threshold=0)
    with pytest.raises(ArtefactError, match="other files"):
        onnx_run.read_graph(path)


def test_weights_in_other_files_are_found_inside_nodes_and_branches(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    path = tmp_path / "model.onnx"
    for nodes in ([constant], [node]):
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [])), path)
        with pytest.raises(ArtefactError, match="other files"):
            onnx_run.read_graph(path)


def test_links_out_of_the_folder_and_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    path = folder / "model.onnx"
    with pytest.raises(ArtefactError, match=r"no model\.onnx"):
        onnx_run.read_graph(path)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError, match="leads out of its folder"):
        onnx_run.read_graph(path)
    path.unlink()
    graph, states = onnx_graph.build(encoder(), "float32")
    whole = graph.model({"last_hidden_state": (states[-1], ("rows", 48))})
    for damaged in (whole[: len(whole) // 2], b"\xff" * 50, b"\x0b\x0b"):
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="no ONNX model"):
            onnx_run.read_graph(path)
    with pytest.raises(ArtefactError, match="cannot read the graph"):
        onnx_run.Runner(b"no model", 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "onnx", None)
    with pytest.raises(UsageError, match=r"package onnx, which"):
        onnx_graph.build(encoder(), "float32")
    monkeypatch.setattr(onnx_run, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"package onnxruntime, which"):
        onnx_run.Runner(b"", 1)


def test_more_weights_than_a_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = encoder(hidden_size=96, intermediate_size=192).config
    assert runs("onnx", "float32", config)
    monkeypatch.setattr(onnx_size, "MAX_BYTES", 400_000)
    assert not runs("onnx", "float32", config), "it is not chosen either"
    assert runs("onnx", "int8", config)
    with pytest.raises(ResourceError, match=r"0\.0 GB in an ONNX file") as caught:
        OnnxEncoder(encoder(hidden_size=96, intermediate_size=192), "float32", threads=1)
    assert "--precision int8" in str(caught.value)
    OnnxEncoder(encoder(hidden_size=96, intermediate_size=192), "int8", threads=1)
