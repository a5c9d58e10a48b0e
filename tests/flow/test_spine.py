"""The whole path through the command line, as a user goes it, and going on after a kill."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from tests import tiny
from unmask import Predictor
from unmask.cli import main

SIZES = [
    "--model.num-hidden-layers", "2", "--model.hidden-size", "32", "--model.num-attention-heads", "2",
    "--model.intermediate-size", "64", "--model.max-length", "64",
]  # fmt: skip
PRETRAIN = [
    "--block-length", "32", "--global-batch-size", "8", "--micro-batch-size", "4", "--max-steps", "40",
    "--eval-blocks", "4", "--eval-every", "20", "--save-every", "10", "--log-every", "10",
    "--optim.lr", "5e-3", "--machine.dtype", "float32", "--machine.threads", "1", *SIZES,
]  # fmt: skip


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", "from unmask.cli import main; main()", *map(str, words)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer, corpus, pre-trained and fine-tuned model, each made by its command."""
    folder = tmp_path_factory.mktemp("spine")
    books = folder / "books.txt"
    paragraphs = [f"{tiny.STORY}\nChapter {n} ends here. The moon was {n} times as bright." for n in range(120)]
    books.write_text("\n\n".join(paragraphs), "utf-8")
    rows = [{"text": f"{text}, {n}", "label": "good"} for n in range(12) for text in tiny.GOOD]
    rows += [{"text": f"{text}, {n}", "label": "bad"} for n in range(12) for text in tiny.BAD]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert run("tokenizer", "train", books, "--output", folder / "tokenizer", "--vocab-size", 400) == 0
    build = ["corpus", "build", books, "--tokenizer", folder / "tokenizer", "--output", folder / "corpus"]
    assert run(*build, "--processes", 1) == 0
    assert run("pretrain", "--corpus", folder / "corpus", "--output", folder / "pretrain", *PRETRAIN) == 0
    finetune = [
        "finetune",
        folder / "rows.jsonl",
        "--model",
        folder / "pretrain/model",
        "--output",
        folder / "finetune",
    ]
    assert run(*finetune, "--epochs", 20, "--patience", 20, "--optim.lr", 3e-3, "--machine.threads", 1) == 0
    return folder


def test_the_loss_falls_and_both_models_open_elsewhere(stages: Path) -> None:
    lines = map(json.loads, (stages / "pretrain/events.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    assert losses[-1] < losses[0] - 1.0
    transformers.AutoModelForMaskedLM.from_pretrained(stages / "pretrain/model")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(stages / "finetune/model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(stages / "finetune/model")
    text = "a fine and lovely film"
    logits = network(**tokenizer(text, return_tensors="pt")).logits
    predictor = Predictor.load(stages / "finetune/model")
    (ours,) = predictor([text])
    theirs = (logits / predictor.task.settings.temperature).softmax(-1)[0].tolist()
    assert list(ours.scores.values()) == pytest.approx(theirs, abs=1e-5)
    assert ours.label == network.config.id2label[logits.argmax().item()] == "good"


def test_answers_come_from_arguments_files_and_stdin(stages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = stages / "finetune/model"
    assert run("predict", *tiny.GOOD, "--model", model, "--json") == 0
    from_arguments = capfd.readouterr().out
    answers = [json.loads(line) for line in from_arguments.splitlines()]
    assert [answer["input"]["text"] for answer in answers] == list(tiny.GOOD)
    assert [answer["label"] for answer in answers] == ["good"] * 4
    table = stages / "ask.csv"
    table.write_text("text\n" + "\n".join(f'"{text}"' for text in tiny.GOOD), "utf-8")
    assert run("predict", "--model", model, "--json", "--file", table) == 0
    from_file = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert from_file == [answer | {"line": answer["line"] + 1} for answer in answers], "behind the header"
    piped = subprocess.run(
        command("predict", "--model", model, "--json"), input="\n".join(tiny.GOOD), capture_output=True, text=True
    )
    assert piped.stdout == from_arguments


def test_evaluate_and_verify(stages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", stages / "rows.jsonl", "--model", stages / "finetune/model", "--json") == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["rows"] == 96
    assert scores["accuracy"] > 0.9
    assert run("verify", stages / "finetune/model") == 0
    assert run("verify", stages / "corpus") == 0
    copy = stages / "copy"
    shutil.copytree(stages / "finetune/model", copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 4
    (copy / "model.safetensors").write_bytes(weights)
    assert run("verify", copy) == 4
    assert "model.safetensors: content changed" in capfd.readouterr().err


def test_the_same_command_again_changes_nothing(stages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (stages / "pretrain/model/MANIFEST.json").read_bytes()
    assert run("pretrain", "--corpus", stages / "corpus", "--output", stages / "pretrain", *PRETRAIN) == 0
    assert "finished" in capfd.readouterr().err
    assert (stages / "pretrain/model/MANIFEST.json").read_bytes() == before
    assert run("pretrain", "--corpus", stages / "corpus", "--output", stages / "pretrain", *PRETRAIN, "--seed", 9) == 2
    assert "seed 0 -> 9" in capfd.readouterr().err


def wait_for(pattern: str, folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_pre_training_that_was_ended_goes_on_to_the_same_weights(
    stages: Path, tmp_path: Path, number: int, code: int
) -> None:
    words = command("pretrain", "--corpus", stages / "corpus", "--output", tmp_path / "run", *PRETRAIN)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        wait_for("run/checkpoints/step-*", tmp_path)
        process.send_signal(number)
        _, talk = process.communicate(timeout=120)
    assert process.returncode == code, talk
    finished = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "going on after step" in finished.stderr
    straight, resumed = stages / "pretrain/model/model.safetensors", tmp_path / "run/model/model.safetensors"
    assert straight.read_bytes() == resumed.read_bytes()


def test_a_fine_tuning_that_was_killed_goes_on_to_the_same_weights(stages: Path, tmp_path: Path) -> None:
    words = ["finetune", str(stages / "rows.jsonl"), "--model", str(stages / "pretrain/model"), "--epochs", "40"]
    words += ["--patience", "9", "--optim.lr", "3e-3", "--machine.threads", "1", "--machine.dtype", "float32"]
    assert run(*words, "--output", tmp_path / "straight") == 0
    again = command(*words, "--output", tmp_path / "run")
    with subprocess.Popen(again, stderr=subprocess.DEVNULL) as process:
        wait_for("run/checkpoints/step-000000012", tmp_path)
        process.kill()
    assert not (tmp_path / "run/model").exists()
    assert "going on after step" in subprocess.run(again, capture_output=True, text=True, check=True).stderr
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("straight", "run")]
    assert weights[0] == weights[1]


def test_fine_tuning_keeps_the_best_epoch_and_stops_when_it_gets_no_better(stages: Path, tmp_path: Path) -> None:
    words = ["finetune", stages / "rows.jsonl", "--model", stages / "pretrain/model", "--epochs", "40"]
    words += ["--patience", "2", "--optim.lr", "3e-3", "--metric", "macro_f1", "--machine.threads", "1"]
    assert run(*words, "--output", tmp_path / "run") == 0
    events = list(map(json.loads, (tmp_path / "run/events.jsonl").read_text().splitlines()))
    scores = [(event["step"], event["macro_f1"]) for event in events if event["event"] == "evaluation"]
    best = max(scores, key=lambda one: (one[1], -one[0]))[0]
    (final,) = (event for event in events if event["event"] == "final")
    assert final["best_step"] == best
    assert [step for step, _ in scores][-3] == best or len(scores) == 40
    config = (tmp_path / "run/config.toml").read_text()
    assert "weight_decay = 0.1" in config
    assert "lr = 0.003" in config
    assert f"kept: {best}" in (tmp_path / "run/model/README.md").read_text()
