"""The flags that say what computes, through the real command line."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.checkpoint import load_model, save_model
from unmask.cli import SMALLER, app, main
from unmask.data.batching import sorted_batches
from unmask.engine.choice import runs
from unmask.engine.compiled import library
from unmask.errors import ResourceError, UsageError
from unmask.predict import Predictor
from unmask.runtime import Machine, processor
from unmask.study.search import open_embedder, read_texts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tiny.saved(tiny.classifier(), tmp_path / "model")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(*words: object) -> None:
    app([str(word) for word in words], exit_on_error=False, print_error=False, result_action="return_value")


def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in tiny.rows_of(tiny.classifier())))
    return file


def words_of(command: str, folder: Path, tmp_path: Path) -> tuple[object, ...]:
    """What a command is asked, without flags."""
    file = rows(tmp_path)
    words = {
        "predict": ("a fine film", "--model", folder),
        "evaluate": (file, "--model", folder),
        "compare": (folder, folder, "--file", file),
        "embed": (file, "--model", folder, "--output", tmp_path / "vectors.npy"),
        "search": ("a film", "--model", folder, "--file", file),
    }
    return words[command]


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare", "embed", "search"])
def test_each_command_computes_as_asked_and_says_so(
    command: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = words_of(command, folder, tmp_path)
    with caplog.at_level(logging.INFO, "unmask"):
        run(command, *words, "--engine", "torch", "--precision", "int8", "--threads", 1)
    assert "engine: torch int8, 1 threads: as asked" in caplog.messages


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare", "embed", "search"])
def test_each_command_takes_batches_as_large_as_asked(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def batches(lengths: np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
        asked.append(max_tokens)
        return sorted_batches(lengths, max_tokens=max_tokens)

    monkeypatch.setattr("unmask.predict.sorted_batches", batches)
    words = words_of(command, folder, tmp_path)
    run(command, *words, "--engine", "torch")
    (tmp_path / "vectors.npy").unlink(missing_ok=True)  # which no second call writes over
    run(command, *words, "--engine", "torch", "--max-tokens", 17)
    assert asked == [8192] * (len(asked) // 2) + [17] * (len(asked) // 2)
    assert asked


def test_precisions_are_proven_in_batches_of_one_size(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="usual size"):
        run("quantize", folder, "--dev", rows(tmp_path), "--output", tmp_path / "int8", "--max-tokens", 17)


@pytest.mark.parametrize(
    ("words", "module", "remedy", "has_checkpoints"),
    [
        (["predict", "a film", "--model", "."], "computing", "lower --max-tokens, or take", False),
        (["finetune", "a.csv", "--output", "run"], "train", "lower --max-tokens, or take", True),
        (["pretrain", "--corpus", "c", "--output", "run"], "train", "lower --micro-batch-size, or take", True),
        (["doctor"], "start", "fix: take a smaller model", False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_lack_of_memory_names_a_flag_of_the_command(
    words: list[str], module: str, remedy: str, has_checkpoints: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(_: str) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(f"unmask.cli.{module}.heavy", full)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 5
    told = capsys.readouterr().err
    assert remedy in told
    assert ("checkpoints stay" in told) == has_checkpoints


@pytest.mark.parametrize(("command", "flag"), SMALLER.items())
def test_the_flag_that_is_named_is_there(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "--help")
    assert f" {flag} " in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card would be taken")
def test_the_device_is_that_of_the_flag(folder: Path) -> None:
    run("predict", "a fine film", "--model", folder, "--device", "cpu")
    with pytest.raises(ResourceError, match="CUDA"):
        run("predict", "a fine film", "--model", folder, "--device", "cuda")


def test_doctor_lists_engines_and_their_formats(capsys: pytest.CaptureFixture[str]) -> None:
    run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["engines"]["torch"] == ["float32", "bfloat16", "int8"]
    for precision in ("float32", "bfloat16", "int8"):
        assert (precision in found["engines"]["native"]) == runs("native", precision, tiny.config())
    run("doctor")
    told = capsys.readouterr().out
    assert "engine torch         float32, bfloat16, int8" in told
    assert ("compiled kernels     everything is there" in told) == (
        library() is not None and "int8" in found["engines"]["native"] and "bfloat16" in found["engines"]["native"]
    )


def test_doctor_tells_processor_and_card_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Machine(torch.device("cuda", 0), torch.bfloat16, 1, "A card", "the card has bfloat16")
    monkeypatch.setattr("unmask.runtime.machine", lambda: card)
    run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["processor"], found["device_name"]) == (processor(), "A card")
    run("doctor")
    told = capsys.readouterr().out
    assert f"processor            {processor()}\n" in told
    assert "device               cuda:0, A card\n" in told


def certified(folder: Path, output: Path) -> Path:
    """The folder with a certificate for int8 that keeps a product in bfloat16."""
    model = load_model(folder)
    save_model(
        output, config=model.config, state_dict=model.state_dict, tokenizer=model.tokenizer, head=model.head,
        labels=model.labels, card="", golden=None,
        meta=model.meta | {"engine": {"int8": {"engine": "torch", "keep": {"0.down": "bfloat16"}}}},
    )  # fmt: skip
    return output


def test_a_certificate_holds_for_its_task_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = certified(folder, tmp_path / "certified")
    speeds = {"float32": 1.0, "int8": 2.0}
    monkeypatch.setattr("unmask.engine.choice._measure", lambda config, one, threads: speeds[one[1]])
    assert Predictor.load(proven).engine.precision == "int8"  # type: ignore[union-attr]
    assert Predictor.load(proven, task="embedding").engine.precision == "float32"  # type: ignore[union-attr]


def test_a_product_that_was_kept_in_bfloat16_is_exact_where_there_is_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = certified(folder, tmp_path / "certified")
    monkeypatch.setattr("unmask.predict.runs", lambda name, precision, config: precision != "bfloat16")
    engine = Predictor.load(proven, engine="torch", precision="int8").engine
    assert engine is not None
    assert engine.keep == {"0.down": "float32"}


def test_vectors_of_another_precision_are_made_anew(folder: Path, tmp_path: Path) -> None:
    file = rows(tmp_path)
    exact, lower = (
        read_texts(file, folder, predictor, column="text").key
        for predictor in (
            open_embedder(folder),
            Predictor.load(folder, task="embedding", engine="torch", precision="int8"),
        )
    )
    assert exact != lower
