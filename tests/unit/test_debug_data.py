"""The command that looks at labelled files."""

import json
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main
from unmask.cli.data import debug_data
from unmask.errors import DataError, UsageError
from unmask.train.settings import ColumnSettings


def test_files_of_one_name_in_two_folders_are_both_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name / "rows.tsv" for name in "abc"]
    for at, file in enumerate(files):
        file.parent.mkdir()
        rows = "".join(f"text number {at} {row} of {file.parent.name}\t{'yn'[row % 2]}\n" for row in range(9))
        file.write_text("text\tlabel\n" + rows)
    debug_data(*files, json=True)
    shown = json.dumps(json.loads(capsys.readouterr().out))
    assert all(str(file) in shown for file in files)


@pytest.mark.parametrize("flag", ["--data.skip-bad", "--data.dev-share=0.2"])
def test_flags_of_training_are_refused(tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\n" + "".join(f"a text {at}\t{'yn'[at % 2]}\n" for at in range(9)))
    with pytest.raises(SystemExit) as ended:
        main(["debug", "data", str(file), flag])
    assert ended.value.code == 2
    assert flag[7:].partition("=")[0].replace("-", "_") + " is for training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "test", "remedy"),
    [
        ("text\tlabel\na\tx\nb\tx\n", None, "mend the rows"),
        ("text\tlabel\na\tx\nb\ty\n\tx\n", None, "mend the rows"),
        (
            "text\tlabel\na b\tx\nc d\ty\n",
            "text\na b\n",
            "mend the rows; --allow-overlap accepts rows that are in two files",
        ),
        (
            '{"text": "Ada sings", "spans": [{"start": 0, "end": 2, "label": "PER"}]}\n',
            None,
            "mend the rows; --options.span_policy contract, expand or drop says what becomes of such spans",
        ),
    ],
)
def test_the_remedy_fits_the_failures(tmp_path: Path, train: str, test: str | None, remedy: str) -> None:
    files = {"train": train, "test": test}
    paths = {name: tmp_path / f"{name}.{'jsonl' if train[0] == '{' else 'tsv'}" for name in files}
    for name, text in files.items():
        paths[name].write_text(text or "")
    with pytest.raises(DataError) as caught:
        debug_data(paths["train"], test=paths["test"] if test else None)
    assert caught.value.details["fix"] == remedy


def test_a_length_in_tokens_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="counted in words"):
        debug_data(tmp_path / "rows.tsv", data=ColumnSettings(max_length=64))


def test_a_length_above_the_models_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\n" + "".join(f"a text {at}\t{'yn'[at % 2]}\n" for at in range(9)))
    model = tiny.saved(tiny.masked_lm(), tmp_path / "model")
    with pytest.raises(UsageError, match=f"takes {tiny.config().max_length} tokens"):
        debug_data(file, model=model, data=ColumnSettings(max_length=100_000))


def test_the_column_of_tags_is_the_one_that_is_named_or_that_of_the_first_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, dev = tmp_path / "eng.train", tmp_path / "eng.testa"
    words = [f"{name} NNP I-NP I-PER\nsings VBZ I-VP O\n\n" for name in ("Ada", "Bob", "Cleo", "Dan")]
    train.write_text("".join(words))
    dev.write_text("Rain NN I-NP O\nfalls VBZ I-VP O\n\nSnow NN I-NP O\n")

    def labels(**named: str) -> dict:
        debug_data(train, dev=dev, data=ColumnSettings(**named), json=True)
        return json.loads(capsys.readouterr().out)["labels"]

    assert labels() == {"PER": {"train": 4, "dev": 0}}
    assert labels(label_column="3") == {"NP": {"train": 4, "dev": 2}, "VP": {"train": 4, "dev": 1}}
