"""The choice of an engine: what is asked for, what runs here, what is measured and remembered."""

import ctypes
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from unmask.checkpoint import load_model, save_model
from unmask.engine import choice
from unmask.engine.choice import Engine, choose, runs
from unmask.engine.compiled import VARIANTS, Library, library
from unmask.engine.native import NativeEncoder
from unmask.engine.onnx import OnnxEncoder
from unmask.errors import ResourceError, UsageError
from unmask.predict import Predictor


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unmask" / "engines.json"


def has_kernels() -> bool:
    return library() is not None


BEST = "native" if runs("native", "int8", tiny.config()) else "torch"  # of int8


def test_without_a_certificate_float32_is_taken(cache: Path) -> None:
    engine = choose(tiny.config())
    assert engine.precision == "float32"
    if has_kernels():
        assert (engine.name, engine.note) == ("native", "exact")
        assert not cache.exists(), "nothing had to be measured"


def test_certified_precisions_are_measured_once(cache: Path) -> None:
    shape = tiny.config(hidden_size=64, intermediate_size=256)
    engine = choose(shape, certified={"int8": BEST}, threads=1)
    assert "tokens/s" in engine.note
    stored = json.loads(cache.read_text())
    assert len(stored) >= 2
    slowest = dict.fromkeys(stored, 1.0) | {next(name for name in stored if "int8" in name): 1e9}
    cache.write_text(json.dumps(slowest))
    again = choose(shape, certified={"int8": BEST}, threads=1)
    assert again.precision == "int8", "the stored speeds decide"
    choose(tiny.config(hidden_size=128), certified={"int8": BEST}, threads=1)
    assert len(json.loads(cache.read_text())) == 2 * len(stored), "another shape is measured anew"


def test_a_certificate_holds_for_the_engine_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"float32": 1.0, "int8": 2.0}
    monkeypatch.setattr(choice, "_measure", lambda config, one, threads: speeds[one[1]])
    shape = tiny.config()
    assert choose(shape, certified={"int8": "torch"}).name == "torch"
    assert choose(shape, certified={"int8": "torch"}).precision == "int8"
    assert choose(shape, certified={"int8": "native"}, name="torch").precision == "float32"
    monkeypatch.setattr(choice, "library", lambda: None)
    assert choose(shape, certified={"int8": "native"}).precision == "float32", "here are no such kernels"


def test_a_cache_that_cannot_be_read_or_written_is_no_hindrance(cache: Path) -> None:
    cache.parent.parent.write_text("a file where a folder should be") if not cache.parent.parent.exists() else None
    assert choose(tiny.config(), certified={"int8": BEST}, threads=1).precision in ("float32", "int8")


@pytest.mark.skipif(library("avx2") is None, reason="no AVX2")
def test_a_processor_that_has_avx2_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = replace(library("avx2"), isa=1)  # type: ignore[type-var]
    monkeypatch.setattr(choice, "library", lambda: alone)
    assert choice.why_not() == "AVX2 has no instructions for bfloat16, int8 here"
    engine = choose(tiny.config(), certified={"int8": "native"}, threads=1)
    assert engine == Engine("native", "float32", 1, "exact")
    assert choose(tiny.config(), precision="int8").name in ("onnx", "torch")
    with pytest.raises(ResourceError, match="AVX2 has no instructions for bfloat16, int8"):
        choose(tiny.config(), name="native", precision="int8")


def test_speeds_of_other_kernels_are_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Library("", ctypes.CDLL(None), 7, "of their source")
    measured = []
    monkeypatch.setattr(choice, "_measure", lambda config, one, threads: measured.append(one) or 1.0)
    there = [replace(kernels, variant=variant) for variant in VARIANTS]
    for found in there * 2:
        monkeypatch.setattr(choice, "library", lambda found=found: found)
        choose(tiny.config(), name="native", certified={"int8": "native"}, threads=1)
    assert measured == [("native", "float32"), ("native", "int8")] * len(VARIANTS)


def test_what_is_asked_for_is_taken() -> None:
    asked = choose(tiny.config(), name="torch", precision="int8", threads=1)
    assert asked == Engine("torch", "int8", 1, "as asked")
    with pytest.raises(UsageError, match="no engine 'openvino'"):
        choose(tiny.config(), name="openvino")
    with pytest.raises(UsageError, match="no precision 'float16'"):
        choose(tiny.config(), precision="float16")


def test_a_processor_without_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "library", lambda: None)
    assert choose(tiny.config()).precision == "float32"
    assert choose(tiny.config(), name="torch").name == "torch"
    with pytest.raises(ResourceError, match="not compiled"):
        choose(tiny.config(), name="native")


@pytest.mark.skipif(not runs("onnx", "float32", tiny.config()), reason="the extra `onnx` is not installed")
def test_onnxruntime_takes_the_place_of_the_network(tmp_path: Path) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    predictor = Predictor.load(folder, engine="onnx", precision="int8", threads=1)
    assert predictor.engine == Engine("onnx", "int8", 1, "as asked")
    assert isinstance(predictor.task.encoder, OnnxEncoder)
    with pytest.raises(ResourceError, match="float32 and int8"):
        choose(tiny.config(), name="onnx", precision="bfloat16")


@pytest.mark.skipif(not runs("onnx", "float32", tiny.config()), reason="the extra `onnx` is not installed")
def test_vectors_of_several_layers_are_computed_by_onnxruntime_too(tmp_path: Path) -> None:
    folder = tiny.saved(tiny.embedder(), tmp_path / "model")
    found, exact = (
        Predictor.load(folder, options={"layers": (0, -1)}, engine=name, threads=1)(["a fine film"])[0].vector
        for name in ("onnx", "torch")
    )
    assert found == pytest.approx(exact, abs=1e-5)
    assert found != pytest.approx(Predictor.load(folder)(["a fine film"])[0].vector, abs=1e-3)


def test_an_engine_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert choose(tiny.config(), certified={"int8": BEST}, threads=1).name != "onnx"
    with pytest.raises(ResourceError, match=r"unmask\[onnx\]"):
        choose(tiny.config(), name="onnx")


def test_a_folder_that_certifies_int8_is_opened_with_it(tmp_path: Path) -> None:
    task = tiny.classifier()
    folder = tiny.saved(task, tmp_path / "model")
    assert Predictor.load(folder).engine.precision == "float32"  # type: ignore[union-attr]
    model = load_model(folder)
    save_model(
        tmp_path / "certified", config=task.config, state_dict=task.state_dict(), tokenizer=task.tokenizer,
        head=task.head_name, labels=task.labels, card="", golden=None,
        meta=model.meta | {"engine": {"int8": {"engine": "torch", "keep": {"0.down": "float32"}}}},
    )  # fmt: skip
    engine = Predictor.load(tmp_path / "certified", engine="torch", precision="int8", threads=1).engine
    assert engine == Engine("torch", "int8", 1, "as asked", {"0.down": "float32"})


@pytest.mark.skipif(not has_kernels(), reason="no kernels here")
def test_the_kernels_take_the_place_of_the_network(tmp_path: Path) -> None:
    predictor = Predictor.load(tiny.saved(tiny.classifier(), tmp_path / "model"))
    assert isinstance(predictor.task.encoder, NativeEncoder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"CUDA|card"):
        Predictor.load(tiny.saved(tiny.classifier(), tmp_path / "model"), device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_gives_the_same_answers(tmp_path: Path, precision: str) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    wanted = Predictor.load(folder, device="cpu")(tiny.GOOD)
    found = Predictor.load(folder, precision=precision, device="cuda")(tiny.GOOD)
    assert [one.score for one in found] == pytest.approx([one.score for one in wanted], abs=1e-2)
