"""The command `predict`: what becomes of rows that cannot be answered, and what is written of the others."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import tiny
from unmask.cli import main
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings

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


def test_a_text_may_begin_with_a_dash(ask: Ask, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, talk = ask("-5 degrees")
    assert code == 2
    assert "behind --" in talk
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--model", str(model), "--", "-5 degrees"])
    assert not caught.value.code
    assert "-5 degrees" in capfd.readouterr().out


def test_what_is_wrong_with_the_file_is_no_bad_row(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    code, lines, talk = ask("--file", tmp_path / "other.csv")
    assert (code, lines) == (3, [])
    assert "missing-column" in talk
    assert "--skip-bad" not in talk
    assert "--text-column NAME" in talk


def test_records_name_their_line_and_carry_columns_over(ask: Ask, table: Path) -> None:
    code, lines, _ = ask("--file", table, "--skip-bad", "--json", "--keep", "id", "label")
    answers = [json.loads(line) for line in lines]
    assert code == 0
    assert [answer["line"] for answer in answers] == [2, 3, 4]
    assert [answer["input"] for answer in answers] == [{"text": "a fine film"}, {"text": " "}, {"text": "a dull film"}]
    assert answers[0]["kept"] == {"id": "7", "label": "good"}
    code, lines, _ = ask("--file", table, "--skip-bad", "--keep", "id", "--keep", "label")
    assert lines[2].endswith("\ta dull film\t9\tbad")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a film", "--keep", "id"), "no-columns"),
        (("--file", "lines.txt", "--text-column", "body"), "--text-column"),
        (("--file", "lines.txt", "--columns", "a,b"), "--columns"),
        (("--file", "rows.csv", "--keep", "idd"), "did you mean 'id'"),
        (("--file", "rows.csv", "--output", "rows.csv"), "exists"),
        (("--file", "rows.csv", "--output", "rows.xls"), ".jsonl or .csv"),
    ],
)
def test_what_cannot_be_kept_or_written_is_refused(
    ask: Ask, table: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(table.parent)
    Path("lines.txt").write_text("a fine film\n")
    code, lines, talk = ask(*words)
    assert code in (2, 3)
    assert (lines, table.read_text()) == ([], ROWS)
    assert said in talk


def test_answers_are_written_to_a_new_file_whole_or_not_at_all(ask: Ask, table: Path, tmp_path: Path) -> None:
    code, _, _ = ask("--file", table, "--output", tmp_path / "out.jsonl")
    assert code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"], "a part of the answers is none"
    assert ask("--file", table, "--skip-bad", "--output", tmp_path / "out.jsonl")[0] == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert lines == ask("--file", table, "--skip-bad", "--json")[1]


def test_a_table_of_answers_has_the_columns_of_file_and_answer(ask: Ask, table: Path, tmp_path: Path) -> None:
    table.write_text(ROWS.replace("7,a fine film", '7,"a ""fine"", film"').replace("8,", "8 ,"))
    words = ("--file", table, "--skip-bad", "--keep", "id", "label", "--output", tmp_path / "out.csv")
    assert ask(*words)[1] == [f"answers: {tmp_path / 'out.csv'}"]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["line", "text", "id", "label", "answer_label"]
    assert [row["text"] for row in rows] == ['a "fine", film', " ", "a dull film"]
    assert rows[0]["answer_label"] in ("good", "bad")
    assert json.loads(rows[0]["answer_scores"]).keys() == {"good", "bad"}
    assert (rows[1]["answer_label"], rows[1]["line"]) == ("", "3")
    assert "empty-text" in rows[1]["reason"]


def test_a_table_waits_for_the_first_answer(ask: Ask, table: Path, tmp_path: Path) -> None:
    table.write_text('id,text,label\n1,"",good\n2,a fine film,good\n')
    assert ask("--file", table, "--skip-bad", "--output", tmp_path / "out.csv")[0] == 0
    assert "answer_label" in (tmp_path / "out.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("more", [(), ("--skip-bad",)])
def test_a_column_of_another_case_is_taken_and_told(ask: Ask, table: Path, more: tuple[str, ...]) -> None:
    table.write_text("ID,Text ,label\n7,a fine film,good\n")
    code, lines, talk = ask("--file", table, "--json", "--keep", "id", *more)
    assert code == 0
    answer = json.loads(lines[0])
    assert (answer["input"], answer["kept"]) == ({"text": "a fine film"}, {"id": "7"})
    assert "'Text ' is taken for 'text'" in talk
    table.write_text("Text,TEXT\na,b\n")
    assert ask("--file", table, *more)[0] == 3, "either could be meant"


def test_no_answers_have_no_accuracy_and_columns_have_names(
    model: Path, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table.write_text("text,label\na fine film,good\na dull film,bad\n")
    said = []
    for more in (["--json"], []):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(table), "--model", str(model), "--options.abstain_below", "0.9999", *more])
        assert not caught.value.code
        said.append(capfd.readouterr().out)
    assert (json.loads(said[0])["coverage"], json.loads(said[0])["accuracy_answered"]) == (0, None)
    lines = said[1].splitlines()
    assert "accuracy_answered none" in lines
    at = lines.index("confusion (rows: label, columns: answer)")
    assert [line.split() for line in lines[at + 1 : at + 4]] == [["bad", "good"], ["bad", "0", "0"], ["good", "0", "0"]]


def test_scores_need_no_column_of_the_same_case(model: Path, table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = []
    for header in ("text,label", "Text,LABEL"):
        table.write_text(f"{header}\na fine film,good\na dull film,bad\n")
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(table), "--model", str(model), "--json"])
        assert not caught.value.code
        scores.append({**json.loads(capfd.readouterr().out), "seconds": 0})
    assert scores[0] == scores[1]
    table.write_text("text,class\na fine film,good\n")
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(table), "--model", str(model), "--json"])
    assert caught.value.code == 3
    assert "--label-column NAME" in capfd.readouterr().err


def test_texts_without_pairs_are_scored_by_torch_where_no_engine_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = EmbeddingSettings(dropout=0.1)
    folder = tiny.saved(Embedding(tiny.config(), tiny.tokenizer(), settings), tmp_path / "vectors")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.GOOD + tiny.BAD) + "\n")
    scores = []
    for more in ([], ["--engine", "torch"]):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(tmp_path / "texts.txt"), "--model", str(folder), "--json", *more])
        assert not caught.value.code
        scores.append({**json.loads(capfd.readouterr().out), "seconds": 0})
    assert scores[0] == scores[1]
    assert scores[0]["alignment"] > 0.001
