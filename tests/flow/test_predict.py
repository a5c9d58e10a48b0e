"""The command `predict`: what becomes of rows that cannot be answered, and what is written of the others."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import tiny
from unmask.cli import main

ROWS = 'id,text,label\n7,a fine film,good\n8," ",bad\n9,a dull film,bad\n'
Ask = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.classifier(), tmp_path_factory.mktemp("predict") / "model")


@pytest.fixture
def ask(model: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Exit code, lines and talk of a call."""

    def run(*words: object) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as caught:
            main(["predict", *map(str, words), "--model", str(model)])
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return int(caught.value.code or 0), said.out.split("\n")[:-1], said.err

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_a_row_without_an_answer_ends_the_work_and_names_the_way_round(ask: Ask, table: Path) -> None:
    code, lines, talk = ask("--file", table)
    assert (code, len(lines)) == (3, 1)
    assert f"{table}:3" in talk
    assert "--skip-bad" in talk


def test_with_skip_bad_positions_are_kept_and_the_reason_is_told(ask: Ask, table: Path) -> None:
    with table.open("a") as file:
        file.write("10,ragged,bad,more\n11,a joy,good\n")
    code, lines, talk = ask("--file", table, "--skip-bad")
    assert (code, len(lines)) == (0, 5)
    assert [bool(line) for line in lines] == [True, False, True, False, True]
    assert f"2 of 5 rows have no answer (1 empty-text, 1 ragged-row), first {table}:3" in talk
    code, lines, _ = ask("--file", table, "--skip-bad", "--json")
    answers = [json.loads(line) for line in lines]
    assert [answer.get("output", answer.get("label")) is None for answer in answers] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert answers[1]["input"] == {"text": " "}
    assert "empty" in answers[1]["reason"]
    assert answers[3]["input"] is None


def test_lines_of_standard_input_are_skipped_too(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"a fine film\n", b"\n", b"caf\xe9\n", b"a dull film\n"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=iter(lines), isatty=lambda: False))
    code, answers, talk = ask("--skip-bad")
    assert (code, [bool(answer) for answer in answers]) == (0, [True, False, False, True])
    assert "1 wrong-encoding" in talk


def test_what_is_wrong_with_the_file_is_no_bad_row(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    code, lines, talk = ask("--file", tmp_path / "other.csv")
    assert (code, lines) == (3, [])
    assert "missing-column" in talk
    assert "--skip-bad" not in talk
