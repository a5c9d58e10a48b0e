"""Damaged, swapped, edited and hostile files: each is found, named and never run; the checkpoint before is taken."""

import json
import os
import pickle
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests import tiny
from tests.faults import crash
from unmask import storage
from unmask.checkpoint import load_model
from unmask.data.corpus import Corpus
from unmask.errors import ArtefactError
from unmask.train.checkpoints import Checkpoints

STEPS = crash.straight(4)
NAMES = ("model.safetensors", "optimizer.safetensors", "state.json", storage.MANIFEST)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("base") / "checkpoints"
    one, checkpoints = crash.trainer(), Checkpoints(folder, keep=2)
    for step in (2, 4):
        checkpoints.save(crash.train(one, step), {"note": step})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.classifier(**crash.SMALL), tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "checkpoints"))


def falls_back(folder: Path, *reasons: str) -> None:
    """The newest checkpoint is rejected with a reason and moved aside; a run goes on from the one before."""
    one = crash.trainer()
    newest = folder / "step-000000004"
    with pytest.raises(ArtefactError) as caught:
        Checkpoints(folder, keep=2).folder_of(4)
    assert all(reason in caught.value.reason for reason in reasons), caught.value
    assert Checkpoints(folder, keep=2).restore(one) == {"step": 2, "note": 2}
    assert crash.fingerprint(one) == STEPS[2]
    assert not newest.exists()
    (aside,) = folder.glob("rejected-*")
    aside.rename(newest)


def reseal(folder: Path) -> None:
    """Make the manifest fit what is there, as somebody would who means harm."""
    storage.seal(folder)
    storage.verify(folder)


@pytest.mark.parametrize("name", NAMES)
def test_cr1_a_file_cut_anywhere_is_found(folder: Path, name: str) -> None:
    path = folder / "step-000000004" / name
    good, rng = path.read_bytes(), random.Random(1)
    for number in range(200):
        path.write_bytes(good[: rng.randrange(len(good))])
        with pytest.raises(ArtefactError):
            Checkpoints(folder, keep=2).folder_of(4)
        if number % 20 == 0:
            falls_back(folder, "manifest" if name == storage.MANIFEST else name)
    path.write_bytes(good)
    assert Checkpoints(folder, keep=2).folder_of(4) == path.parent


def flips(path: Path, check: Callable[[], object], count: int = 250) -> None:
    """Turn single bits of a file around; each time the check fails with its name, and without them it passes."""
    good, rng = path.read_bytes(), random.Random(2)
    for _ in range(count):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(ArtefactError, match=f"{path.name}: content changed"):
            check()
    path.write_bytes(good)
    check()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_cr2_a_flipped_bit_of_a_checkpoint_is_found(folder: Path, name: str) -> None:
    flips(folder / "step-000000004" / name, lambda: Checkpoints(folder, keep=2).folder_of(4))
    path = folder / "step-000000004" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    falls_back(folder, f"{name}: content changed")


def test_cr2_a_flipped_bit_of_a_tokenizer_is_found(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    flips(copy / "tokenizer.json", lambda: load_model(copy))


def test_cr2_a_flipped_bit_of_a_corpus_is_found(tmp_path: Path) -> None:
    corpus = crash.pretraining_corpus(tmp_path)
    flips(corpus / "tokens-00000.bin", lambda: Corpus.open(corpus, verify=True))


@pytest.mark.parametrize("name", NAMES)
def test_cr3_a_missing_an_empty_and_a_swapped_file_are_found(folder: Path, name: str) -> None:
    path, other = (folder / f"step-00000000{step}" / name for step in (4, 2))
    good = path.read_bytes()
    path.unlink()
    falls_back(folder)
    path.touch()
    falls_back(folder)
    shutil.copyfile(other, path)
    assert path.read_bytes() != good
    falls_back(folder)
    path.write_bytes(good)
    (path.parent / "more.safetensors").write_bytes(good)
    falls_back(folder, "more.safetensors: not in the manifest")


def _first_entry_twice(text: str) -> str:
    start = text.index('  "model.safetensors"')
    end = text.index("}", start) + 2
    return text[:end] + "\n" + text[start:end] + text[end:]


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"size_bytes": ', '"size_bytes": 1', 1),
        lambda text: text.replace('"xxh3_128": "', '"xxh3_128": "0', 1),
        lambda text: text.replace('"xxh3_128"', '"xxh3_64"', 1),
        lambda text: text.replace('"state.json"', '"other.json"'),
        lambda text: text.replace('"format": 1', '"format": "1"'),
        lambda text: text.replace('"files"', '"file"'),
        lambda text: text[: len(text) // 2],
        lambda text: text + " ",
        lambda text: json.dumps(json.loads(text)),
        _first_entry_twice,
        lambda text: "[]",
        lambda text: "\0" * len(text),
    ],
)
def test_cr4_an_edited_manifest_is_found(folder: Path, edit: Callable[[str], str]) -> None:
    path = folder / "step-000000004" / storage.MANIFEST
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before
    falls_back(folder)


def test_cr4_a_flipped_bit_of_a_manifest_is_found(folder: Path) -> None:
    path = folder / "step-000000004" / storage.MANIFEST
    good = path.read_bytes()
    for bit in range(0, len(good) * 8, 7):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(ArtefactError):
            storage.verify(path.parent)


def test_cr5_a_run_whose_checkpoints_are_all_bad_does_not_start_anew(folder: Path) -> None:
    (folder / "step-000000002" / "state.json").unlink()
    (folder / "step-000000004" / storage.MANIFEST).write_text("{")
    before = crash.files(folder)
    with pytest.raises(ArtefactError, match="no-valid-checkpoint") as caught:
        Checkpoints(folder, keep=2).restore(crash.trainer())
    assert "step-000000002: 1 of 3 files differ from the manifest: state.json: missing" in caught.value.reason
    assert "step-000000004: the manifest cannot be read" in caught.value.reason
    assert crash.files(folder) == before


class _Harm:
    """A pickle that makes a file when it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pt", "optimizer.safetensors"])
def test_cr6_a_pickle_is_never_opened(folder: Path, model: Path, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    harm = pickle.dumps(_Harm(canary))
    pickle.loads(harm)
    canary.rmdir()
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    for part in (storage.MANIFEST, "unmask.json", "model.safetensors"):
        (copy / part).unlink()
    (copy / name).write_bytes(harm)
    with pytest.raises(ArtefactError) as caught:
        load_model(copy)
    assert caught.value.code in ("unsafe-weights", "corrupt-weights", "no-weights")
    (folder / "step-000000004" / name).write_bytes(harm)
    reseal(folder / "step-000000004")
    if name.endswith(".safetensors"):
        falls_back(folder)
    else:
        Checkpoints(folder, keep=2).restore(crash.trainer())
    assert not canary.exists()


def _file(header: object, size_bytes: int = 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(size_bytes)


def _entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), start: int = 0, end: int = 8) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}


def _abuse() -> dict[str, bytes]:
    return {
        "length beyond all": _file({}, length=2**63),
        "length beyond the file": _file({}, length=900_000),
        "header of many megabytes": _file(b"{" + b" " * (80 << 20)),
        "so many tensors": _file({f"t{number}": _entry(shape=(0,), end=0) for number in range(100_000)}, 0),
        "overlap": _file({"a": _entry(), "b": _entry(start=4, end=12)}, 12),
        "hole": _file({"a": _entry(), "b": _entry(start=12, end=20)}, 20),
        "more behind": _file({"a": _entry()}, 9),
        "unknown type": _file({"a": _entry("X9")}),
        "shape of billions": _file({"a": _entry(shape=(10**9,))}),
        "shape that overflows": _file({"a": _entry(shape=(2**62, 2**62))}),
        "negative shape": _file({"a": _entry(shape=(-2,))}),
        "deep": _file(b"[" * 100_000),
        "no text": _file(b"\xff\xfe{}"),
        "no tensors": _file({}, 0),
        "empty": b"",
        "short": b"\1\0",
    }


def _look_at_each(folder: Path) -> None:
    """In a process of its own, whose memory has not grown before."""
    path = folder / "model.safetensors"
    for name, data in _abuse().items():
        path.write_bytes(data)
        with pytest.raises(ArtefactError):
            load_model(folder)  # to warm up
        memory, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(ArtefactError) as caught:
            load_model(folder)
        assert time.process_time() - begun < 0.5, name  # about 10 ms; others take seconds for some of these
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 << 10, name
        assert caught.value.code == ("corrupt-weights" if name != "no tensors" else "missing-weights"), name


def test_cr7_hostile_weights_cost_nothing(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    for part in (storage.MANIFEST, "unmask.json"):
        (copy / part).unlink()
    assert crash.run(_look_at_each, copy) == 0


def test_cr7_hostile_weights_in_a_checkpoint_are_rejected(folder: Path) -> None:
    for name, data in _abuse().items():
        if name != "no tensors":
            (folder / "step-000000004" / "model.safetensors").write_bytes(data)
            reseal(folder / "step-000000004")
            falls_back(folder)


def test_cr8_a_checkpoint_of_a_newer_format_stops_the_run(folder: Path) -> None:
    path = folder / "step-000000004" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2, "version": "9.4"}))
    reseal(path.parent)
    before = crash.files(folder)
    with pytest.raises(ArtefactError, match="newer-format") as caught:
        Checkpoints(folder, keep=2).restore(crash.trainer())
    assert "written by version 9.4 of unmask in format 2" in caught.value.reason
    assert "newer unmask" in str(caught.value.details["fix"])
    assert crash.files(folder) == before


def test_cr8_a_manifest_or_a_model_of_a_newer_format_is_refused(folder: Path, model: Path, tmp_path: Path) -> None:
    path = folder / "step-000000004" / storage.MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ArtefactError, match="newer-format"):
        Checkpoints(folder, keep=2).restore(crash.trainer())
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    note = json.loads((copy / "unmask.json").read_text())
    note["versions"]["unmask"] = "9.4"
    (copy / "unmask.json").write_text(json.dumps(note | {"format": 2}))
    reseal(copy)
    with pytest.raises(ArtefactError, match=r"version 9\.4"):
        load_model(copy)


def test_cr9_other_shapes_are_listed_and_nothing_is_taken_over(folder: Path) -> None:
    before = crash.files(folder)
    one = crash.trainer(hidden_size=8)
    fresh = {name: value.clone() for name, value in one.task.state_dict().items()}
    with pytest.raises(ArtefactError, match="other-tensors") as caught:
        Checkpoints(folder, keep=2).restore(one)
    assert "encoder.layers.0.attention_out.weight: (16, 16) instead of (8, 8)" in caught.value.reason
    assert caught.value.reason.count("instead of") == 10
    assert all(torch.equal(value, fresh[name]) for name, value in one.task.state_dict().items())
    assert one.step == 0
    assert crash.files(folder) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_nm6_values_that_are_not_finite_are_refused_by_name(folder: Path, file: str, value: float) -> None:
    path = folder / "step-000000004" / file
    tensors = safetensors.torch.load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][1, 1] = value
    path.write_bytes(safetensors.torch.save(tensors))
    reseal(path.parent)
    falls_back(folder, f"1 tensors hold NaN or infinite values: {name}")


def test_a_checkpoint_of_another_kind_is_rejected(folder: Path) -> None:
    for content in ([], {}, {"step": 4, "trainer": {}}, {"format": 0, "trainer": {}}, {"format": 1}):
        (folder / "step-000000004" / "state.json").write_text(json.dumps(content))
        reseal(folder / "step-000000004")
        falls_back(folder, "no checkpoint of this version")


def test_the_best_step_is_verified_when_it_is_asked_for(folder: Path) -> None:
    (folder / "step-000000002" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtefactError, match="step-000000002") as caught:
        Checkpoints(folder, keep=2).folder_of(2)
    assert "model.safetensors: 0 bytes instead of" in caught.value.reason
    with pytest.raises(ArtefactError, match="no such folder"):
        Checkpoints(folder, keep=2).folder_of(3)
