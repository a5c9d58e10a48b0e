"""What `unmask debug data` says about files whose faults are known."""

import json
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main
from unmask.data.recognise import read_rows
from unmask.study.row_faults import FAULTS, num_words
from unmask.study.row_lines import to_lines
from unmask.study.rows import DataView, Measure, look_at_rows

KINDS = [("cats", "pos"), ("old roofs", "neg"), ("the sea", "pos"), ("tax", "neg")] * 3
GOOD = [f"{at}: this is a text about {what} and nothing else\t{label}" for at, (what, label) in enumerate(KINDS)]


def write(path: Path, rows: list[str], header: str = "text\tlabel") -> Path:
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> DataView:
    folder = tmp_path_factory.mktemp("data")
    train = write(
        folder / "train.tsv",
        [
            *GOOD,
            "a  COPY of a row\tpos",
            "a copy of a row\tneg",
            "\tpos",
            "...\tneg",
            "one\ttwo\tthree",
            "only here\tnever",
        ],
    )
    dev = write(
        folder / "dev.tsv",
        ["A copy of a row\tpos", GOOD[1].replace("old", "olds"), "cafÃ© &amp; <br />\tposs", "new\x07\t POS"],
    )
    return look_at_rows({"train": train, "dev": dev})


def test_files_and_labels_are_counted(view: DataView) -> None:
    assert {name: rows for name, (_, rows) in view.files.items()} == {"train": 17, "dev": 4}
    assert view.labels["pos"] == {"train": 8, "dev": 1}
    assert list(view.labels) == ["pos", "neg", "never", "poss", " POS"]
    assert view.task == "classification"


def test_labels_that_do_not_fit_get_the_nearest_name(view: DataView) -> None:
    unknown = [line for line in view.failures if "label" in line]
    assert len(unknown) == 2
    assert all("did you mean 'pos'?" in line for line in unknown)
    assert "(1 rows, first dev.tsv:4)" in unknown[0]
    assert view.unseen == ["in train, not in dev: 'never' (1)"]


def test_copies_are_found_inside_and_between(view: DataView) -> None:
    inside, between = view.overlaps
    assert (inside.inside, inside.name, inside.equal, inside.contradicting) == ("train", "train", 1, 1)
    assert (between.inside, between.name, between.equal, between.near, between.contradicting) == (
        "train",
        "dev",
        1,
        1,
        0,
    )
    assert between.share == 0.5
    assert between.examples[0].startswith("train.tsv:14 = dev.tsv:2  A copy")
    assert between.examples[1].startswith("train.tsv:3 ~ dev.tsv:3  1: this")
    assert any(line.startswith("dev: 1 of 4 rows are in train too") for line in view.failures)


def test_odd_rows_are_shown_with_their_places(view: DataView) -> None:
    found = {one.name: one for one in view.troubles}
    assert found["cannot be read"].count == 1
    assert "train.tsv:18" in found["cannot be read"].examples[0]
    assert found["nothing in a text"].examples == ["train.tsv:16"]
    assert {name: one.examples for name, one in found.items() if name in FAULTS} == {
        "only marks": ["train.tsv:17  ..."],
        "broken characters": ["dev.tsv:4  caf\u00c3\u00a9 &amp; <br />"],
        "control characters": ["dev.tsv:5  new\\x07"],
        "markup": ["dev.tsv:4  caf\u00c3\u00a9 &amp; <br />"],
    }
    assert [one.name for one in view.troubles if one.is_failure] == ["cannot be read", "nothing in a text"]


@pytest.mark.parametrize(
    ("fault", "good", "bad"),
    [
        ("only marks", ["a.", "\u5929", "5 %", ""], ["!?", "\u3002", " -- "]),
        ("broken characters", ["\u00e2ne", "caf\u00e9", "\u00c3O PAULO"],
         ["caf\u00c3\u00a9", "it\u00e2\u20ac\u2122s", "\u00c2\u00a3", "\ufffd"]),
        ("control characters", ["a\tb\nc", "\u200d"], ["\x07", "\x92", "\ufeff"]),
        ("markup", ["a < b > c", "R&D", "AT&T; x"], ["<br/>", "</p>", "&quot;", "&#39;"]),
        ("a quote that is not closed", ['"a" b', 'a "b', '"a "b" c"'], ['"a', '"a "b" c']),
    ],
)  # fmt: skip
def test_faults(fault: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in [*good, *bad] if FAULTS[fault].search(text)] == bad


@pytest.mark.parametrize(
    ("text", "words"), [("It's two", 3), ("\u4eca\u5929 is 2024-1", 5), ("", 0), ("...", 0), ("\u30c6\u30b9\u30c8", 3)]
)
def test_words_are_counted(text: str, words: int) -> None:
    assert num_words(text) == words


def test_lengths_in_tokens_and_what_does_not_fit(tmp_path: Path) -> None:
    tokenizer = tiny.classifier().tokenizer
    train = write(tmp_path / "train.tsv", [*GOOD, "long " * 50 + "\tpos"])
    view = look_at_rows({"train": train}, measure=Measure(tokenizer, 40))
    wanted = [len(tokenizer.encode_ids([row["text"]])[0]) + 2 for row in read_rows(train).rows]
    assert view.lengths.tolist() == wanted
    assert view.num_long == sum(length > 40 for length in wanted) == 1
    assert view.long_share == pytest.approx((max(wanted) - 40) / sum(wanted))


def test_spans_that_do_not_fit_are_drawn(tmp_path: Path) -> None:
    rows = [
        {"text": "Ada lives in Paris", "spans": [{"start": 0, "end": 3, "label": "PER"}]},
        {"text": "Ada lives in Paris", "spans": [{"start": 13, "end": 17, "label": "LOC"}]},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = look_at_rows({"train": path})
    (trouble,) = view.troubles
    assert view.task == "tagging"
    assert trouble.name == "a span begins or ends inside a word"
    assert trouble.examples[0].splitlines() == ["train.jsonl:2", "    Ada lives in Paris", "                 ^^^^ LOC"]


def test_questions_about_one_text_are_no_copies(tmp_path: Path) -> None:
    def question(at: int, context: str) -> dict[str, object]:
        return {"context": context, "question": f"What is {at}?", "answers": [{"text": "number", "answer_start": 5}]}

    for name, contexts in (("train", "ab"), ("dev", "bc")):
        rows = [
            question(at, f"This number {context} is about {context * 9}.") for context in contexts for at in range(3)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = look_at_rows({name: tmp_path / f"{name}.jsonl" for name in ("train", "dev")})
    assert view.task == "span_qa"
    assert [(one.inside, one.name, one.equal) for one in view.overlaps] == [("train", "dev", 3)]


def test_the_command_ends_with_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train.tsv", GOOD)
    write(tmp_path / "test.tsv", [*GOOD[:2], "another text of quite other words\tpos"])
    for flags, code in (([], 3), (["--allow-overlap"], 0), (["--json"], 3)):
        with pytest.raises(SystemExit) as caught:
            main(["debug", "data", str(tmp_path), *flags])
        assert caught.value.code == code
        out = capsys.readouterr().out
        if "--json" in flags:
            assert json.loads(out)["overlaps"][-1]["equal"] == 2
        else:
            assert ("FAIL test: 2 of 3 rows are in train too" in out) == (code == 3)


def test_a_test_file_needs_no_labels(tmp_path: Path) -> None:
    test = write(tmp_path / "test.tsv", ["a text without one"], header="text")
    view = look_at_rows({"train": write(tmp_path / "train.tsv", GOOD), "test": test})
    assert not view.failures
    assert view.labels["pos"] == {"train": 6, "test": 0}
    assert any("nothing that has to be mended" in line for line in to_lines(view))


def test_what_the_task_cannot_learn_from_is_a_failure(tmp_path: Path) -> None:
    view = look_at_rows({"train": write(tmp_path / "train.tsv", ["a\tx", "b\tx"])})
    assert "same label" in view.failures[0]


def test_labels_that_differ_by_blanks_alone_are_shown_in_quotes_and_fail(tmp_path: Path) -> None:
    view = look_at_rows({"train": write(tmp_path / "train.tsv", [*GOOD, "one more text\tpos ", "and one\tneg"])})
    lines = list(to_lines(view))
    assert any("3 classes: neg, pos, 'pos '" in line for line in lines)
    assert any(line.startswith("  'pos '") for line in lines)
    assert [line for line in lines if line.startswith("FAIL")] == [f"FAIL {view.failures[0]}"]
    assert "'pos', 'pos '; write each in one way" in view.failures[0]


@pytest.mark.parametrize(("others", "fails"), [(["POS"], False), (["POS", "pos "], True), (["Pos", "POS"], False)])
def test_labels_that_differ_by_case_alone_are_told_and_do_not_fail(
    tmp_path: Path, others: list[str], fails: bool
) -> None:
    rows = [f"more text of number {at}\t{name}" for at, name in enumerate(others)]
    view = look_at_rows({"train": write(tmp_path / "train.tsv", [*GOOD, *rows])})
    told = [f"{one.count}: {one.name}" for one in view.troubles if "only by case are" in one.name]
    assert len(view.failures) == fails
    names = ", ".join(map(repr, sorted(["pos", *others])))
    start = f"{6 + len(others)}: labels that differ only by case are different classes here: {names};"
    assert [line.startswith(start) for line in told] == [True] * (not fails)
    assert all(f"  {line}" in list(to_lines(view)) for line in told)


def test_an_empty_label_is_a_failure_and_no_class(tmp_path: Path) -> None:
    view = look_at_rows({"train": write(tmp_path / "train.tsv", [*GOOD, "one more text\t", "and one\t "])})
    assert list(view.labels) == ["pos", "neg"]
    (failure,) = view.failures
    assert failure.startswith(
        "refused by the task [empty-text]: 2 rows, such as train.tsv:14  the label in column 'label'"
    )


@pytest.mark.parametrize(
    ("policy", "end", "fails"),
    [(None, 17, True), ("strict", 17, True), ("contract", 17, False), (None, 99, True), ("drop", 99, False)],
)
def test_spans_that_training_refuses_are_failures(tmp_path: Path, policy: str | None, end: int, fails: bool) -> None:
    rows = [
        {"text": "Ada lives in Paris", "spans": [{"start": 0, "end": 3, "label": "PER"}]},
        {"text": "Ada lives in Paris", "spans": [{"start": 13, "end": end, "label": "LOC"}]},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = look_at_rows({"train": path}, given={"span_policy": policy} if policy else {})
    assert [trouble.is_failure for trouble in view.troubles] == [fails]
    assert len(view.failures) == fails
    assert all("such as train.jsonl:2" in line for line in view.failures)


def test_a_stray_tag_fails_only_where_training_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("Ada B-PER\nsings O\nhere O\n\nin O\nRome I-LOC\n")
    assert not look_at_rows({"train": path}).failures
    assert len(look_at_rows({"train": path}, given={"span_policy": "strict"}).failures) == 1


def test_a_question_without_answers_is_a_failure_where_it_is_learned_from(tmp_path: Path) -> None:
    good = {"context": "Ada lives in Rome.", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 13}]}
    path = {}
    for name in ("train", "dev", "test"):
        path[name] = tmp_path / f"{name}.jsonl"
        bad = {"context": f"It is {name} here.", "question": "Who?", "is_impossible": False}
        path[name].write_text("".join(json.dumps(row) + "\n" for row in (good, bad)))
    found = {one.name: one for one in look_at_rows(path).troubles if one.is_failure}
    assert found["refused by the task [no-answers]"].count == 2
    assert [line.partition(" ")[0] for line in found["refused by the task [no-answers]"].examples] == [
        "train.jsonl:2",
        "dev.jsonl:2",
    ]


def test_flags_give_settings_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"text": "Ada sings", "spans": [{"start": 0, "end": 2, "label": "PER"}]}] * 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for flags, code in (([], 3), (["--options.span-policy", "expand"], 0), (["--task", "tagging"], 3)):
        with pytest.raises(SystemExit) as caught:
            main(["debug", "data", str(path), *flags])
        assert caught.value.code == code
