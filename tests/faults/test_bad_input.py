"""What a user's mistakes get: place, value, remedy, the right exit code, no traceback, nothing lost."""

import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main
from unmask.predict import Predictor
from unmask.train.finish import write_model
from unmask.train.run import Run
from unmask.train.settings import FinetuneSettings

ROWS = "text,label\n" + "\n".join(f"{text} {n},{name}" for n in range(8) for name, texts in
                                  (("good", tiny.GOOD), ("bad", tiny.BAD)) for text in
                                  (one.replace(",", "") for one in texts)) + "\n"  # fmt: skip
SMALL = [
    "--epochs", "1", "--model.num-hidden-layers", "1", "--model.hidden-size", "16", "--model.num-attention-heads", "1",
    "--model.intermediate-size", "16", "--machine.dtype", "float32", "--machine.threads", "1",
]  # fmt: skip


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        talk = capfd.readouterr().err
        assert "Traceback" not in talk
        return int(caught.value.code or 0), talk

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, "utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with Run.open(folder / "run", FinetuneSettings(), {}) as run:
        run.log("final", step=0, best_step=0, scores={"accuracy": 0.5})
        write_model(run, tiny.classifier(), FinetuneSettings(), {})
        return run.model


def test_a_wrong_encoding_is_named_with_a_guess(ask, tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ncaf\u00e9 noir,good\nbad,bad\n".encode("latin-1"))
    code, talk = ask("finetune", path, "--output", tmp_path / "run")
    assert code == 3
    assert f"{path}:2" in talk
    assert "iconv" in talk


def test_a_binary_file_is_refused(ask, tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert ask("finetune", path, "--output", tmp_path / "run")[0] == 3


def test_a_ragged_row_is_named(ask, tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("text,label\na,good\nb,bad,more\n")
    code, talk = ask("finetune", path, "--output", tmp_path / "run")
    assert code == 3
    assert f"{path}:3" in talk
    assert "expected 2 fields, saw 3" in talk


def test_a_missing_column_lists_those_that_are_there(ask, rows: Path, tmp_path: Path) -> None:
    code, talk = ask("finetune", rows, "--output", tmp_path / "run", "--data.text-column", "txt")
    assert code == 3
    assert "text, label" in talk


def test_a_label_of_dev_that_train_never_had(ask, rows: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.csv"
    dev.write_text("text,label\na fine day,good\na dull day,badd\n")
    code, talk = ask("finetune", rows, "--dev", dev, "--output", tmp_path / "run", *SMALL)
    assert code == 3
    assert f"{dev}:3" in talk
    assert "did you mean 'bad'" in talk


def test_an_empty_text_is_named(ask, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\na fine day,good\n"",bad\n')
    code, talk = ask("evaluate", path, "--model", model)
    assert code == 3
    assert f"{path}:3" in talk


def test_ds13_a_long_text_is_read_in_windows_or_cut_and_both_are_said(ask, rows: Path, tmp_path: Path) -> None:
    with rows.open("a") as file:
        file.write("word " * 1500 + ",good\n")
        file.write("term " * 1500 + ",good\n")
    code, talk = ask("finetune", rows, "--output", tmp_path / "run", *SMALL)
    assert code == 0
    assert "% of all tokens are cut off" not in talk
    assert "inputs: long texts are read in overlapping windows" in talk
    code, talk = ask("finetune", rows, "--output", tmp_path / "cut", *SMALL, "--options.long_texts", "cut")
    assert code == 0
    assert "% of all tokens are cut off" in talk


@pytest.mark.parametrize(
    ("flag", "hint"),
    [("--optim.lrr", "--optim.lr?"), ("--epoch", "--epochs?"), ("--data.text-colum", "--data.text-column?")],
)
def test_an_unknown_setting_gets_a_suggestion(ask, rows: Path, tmp_path: Path, flag: str, hint: str) -> None:
    code, talk = ask("finetune", rows, "--output", tmp_path / "run", flag, "1")
    assert code == 2
    assert flag in talk
    assert hint in talk


def test_an_unknown_key_of_a_recipe_gets_a_suggestion(ask, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("max_step = 10\n")
    code, talk = ask("pretrain", "--corpus", tmp_path, "--output", tmp_path / "run", "--recipe", recipe)
    assert code == 2
    assert "did you mean 'max_steps'" in talk
    assert ask("pretrain", "--corpus", tmp_path, "--output", tmp_path / "run", "--recipe", "minni")[1].count("mini")


@pytest.mark.parametrize(("flag", "value"), [("--optim.lr", "-1"), ("--epochs", "0"), ("--optim.lr", "fast")])
def test_a_wrong_value_is_named(ask, rows: Path, tmp_path: Path, flag: str, value: str) -> None:
    code, talk = ask("finetune", rows, "--output", tmp_path / "run", f"{flag}={value}")
    assert code == 2
    assert flag.removeprefix("--") in talk
    assert value in talk


@pytest.mark.parametrize("command", [("predict", "a"), ("finetune",)])
def test_a_missing_model_is_never_a_random_start(ask, rows: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    words = (*command, "--model", tmp_path / "nowhere")
    if command[0] == "finetune":
        words = (command[0], rows, "--output", tmp_path / "run", "--model", tmp_path / "nowhere")
    code, talk = ask(*words)
    assert code == 4
    assert "nowhere" in talk
    assert not (tmp_path / "run/model").exists()


def test_classes_to_choose_from_need_zero_shot(ask, model: Path) -> None:
    code, talk = ask("predict", "a fine day", "--model", model, "--labels", "a,b")
    assert code == 2
    assert "--task zero_shot" in talk
    assert "candidate_labels'; did you mean" not in talk


def test_a_run_folder_stands_for_its_model(ask, model: Path, rows: Path, tmp_path: Path) -> None:
    assert ask("predict", "a fine day", "--model", model.parent)[0] == 0
    assert ask("evaluate", rows, "--model", model.parent)[0] == 0
    assert Predictor.load(model.parent)(["a"]) == Predictor.load(model)(["a"])
    with Run.open(tmp_path / "begun", FinetuneSettings(), {}) as run:
        run.log("start")
    code, talk = ask("predict", "a fine day", "--model", tmp_path / "begun")
    assert code == 4
    assert "not come to its end" in talk


def test_a_missing_file_is_named(ask, tmp_path: Path) -> None:
    code, talk = ask("finetune", tmp_path / "none.csv", "--output", tmp_path / "run")
    assert code == 3
    assert "none.csv" in talk


def test_a_second_run_into_the_same_folder(ask, rows: Path, tmp_path: Path) -> None:
    assert ask("finetune", rows, "--output", tmp_path / "run", *SMALL)[0] == 0
    model = (tmp_path / "run/model/MANIFEST.json").read_bytes()
    code, talk = ask("finetune", rows, "--output", tmp_path / "run", *SMALL, "--seed", "5")
    assert code == 2
    assert "seed 0 -> 5" in talk
    assert (tmp_path / "run/model/MANIFEST.json").read_bytes() == model


def test_a_full_disk_keeps_what_was_there(rows: Path, tmp_path: Path) -> None:
    words = ["finetune", str(rows), "--output", str(tmp_path / "run"), *SMALL]
    script = "import resource, signal, sys\nfrom unmask.cli import main\n"
    script += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\nmain(sys.argv[1:])"
    full = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert full.returncode == 5, full.stderr
    assert "there is no room to write" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "run").glob("**/.staging*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    again = subprocess.run([sys.executable, "-c", "from unmask.cli import main; main()", *words], capture_output=True)
    assert again.returncode == 0, again.stderr


def test_a_reader_that_leaves_is_no_error(model: Path) -> None:
    text = "\n".join(["a fine day"] * 20000)
    words = [sys.executable, "-c", "from unmask.cli import main; main()", "predict", "--model", str(model)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, talk = process.communicate(text, timeout=120)
    assert "Traceback" not in talk
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
@pytest.mark.parametrize("words", [("predict", "a fine day", "--json"), ("--help",)])
def test_a_full_disk_behind_the_output_is_an_ordinary_error(model: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", "from unmask.cli import main; main()", *words]
    command += ["--model", str(model)] if words[0] == "predict" else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_nobody_to_tell_and_no_error(model: Path, tmp_path: Path, closed: str) -> None:
    command = [sys.executable, "-m", "unmask", "predict", "a film", "--threads", "1", "--model", str(model)]
    output = tmp_path / "answers.jsonl"
    call = " ".join(map(shlex.quote, [*command, "--output", str(output)]))
    done = subprocess.run(["sh", "-c", f"{call} {closed}"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert output.read_text().count("\n") == 1
