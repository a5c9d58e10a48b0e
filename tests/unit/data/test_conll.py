"""Files of words and tags, of parts of speech and of spans in JSON: read, recognised, written and read again."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.texts import rows
from tests.unit.data.writers import write_conll, write_span_json
from unmask.data.conll import looks_like_conll, read_conll
from unmask.data.conllu import looks_like_conllu, read_conllu
from unmask.data.recognise import read_rows
from unmask.data.rows import Table
from unmask.data.span_json import looks_like_span_json, read_span_json
from unmask.data.spans import STRAY, Span, units
from unmask.errors import DataError

FOUR = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
Bob NNP I-NP B-PER

"""
UD = """# newdoc id = a
# sent_id = 1
# text = I can't see "du vin".
1	I	I	PRON	PRP	_	4	nsubj	_	_
2-3	can't	_	_	_	_	_	_	_	_
2	ca	can	AUX	MD	_	4	aux	_	_
3	n't	not	PART	RB	_	4	advmod	_	_
4	see	see	VERB	VB	_	0	root	_	_
4.1	it	it	PRON	PRP	_	_	_	_	_
5	"	"	PUNCT	``	_	7	punct	_	SpaceAfter=No
6-7	du	_	_	_	_	_	_	_	_
6	de	de	ADP	IN	_	8	case	_	_
7	le	le	DET	DT	_	8	det	_	_
8	vin	vin	NOUN	NN	_	4	obj	_	SpaceAfter=No
9	"	"	PUNCT	''	_	8	punct	_	SpaceAfter=No
10	.	.	PUNCT	.	_	4	punct	_	_

1	No	no	INTJ	UH	_	0	root	_	SpaceAfter=No
2	!	!	_	.	_	1	punct	_	_
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


def found(row: dict) -> list[tuple[str, str]]:
    return [(row["text"][span.start : span.end], span.label) for span in row["spans"]]


def forms(row: dict) -> list[str]:
    return [row["text"][start:end] for start, end in row["words"]]


def letters(text: str) -> str:
    """A text without what stands in no word."""
    return "".join(text[start:end] for start, end in units(text))


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_four_columns_of_iob1(tmp_path: Path, separator: str, end: str) -> None:
    path = write(tmp_path / "eng.train", FOUR.replace(" ", separator).replace("\n", end))
    assert looks_like_conll(path, path.read_text())
    table = read_conll(path)
    assert (table.form, table.lines) == ("tagged", [3, 8])
    assert [row["text"] for row in table.rows] == ["EU rejects German call", "Peter Blackburn Bob"]
    assert found(table.rows[0]) == [("EU", "ORG"), ("German", "MISC")]
    assert found(table.rows[1]) == [("Peter Blackburn", "PER"), ("Bob", "PER")]
    assert not any("doubts" in row or "document" in row for row in table.rows)


def test_another_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "eng.train", FOUR)
    assert found(read_conll(path, "3").rows[0]) == [("EU", "NP"), ("rejects", "VP"), ("German call", "NP")]
    assert found(read_conll(path, "2").rows[0])[:2] == [("EU", "NNP"), ("rejects", "VBZ")]
    with pytest.raises(DataError, match="no column '5'"):
        read_conll(path, "5")


def test_the_place_of_the_tags_is_kept_for_other_files_of_that_width(tmp_path: Path) -> None:
    """A file without a single entity says nothing of its entity column; the file that was trained on does."""
    train = read_rows(write(tmp_path / "eng.train", FOUR))
    assert train.tag_column == train.part([1]).tag_column == "4 of 4"
    dev = write(tmp_path / "eng.testa", "Rain NN I-NP O\nfalls VBZ I-VP O\n\nSnow NN I-NP O\n")
    assert found(read_rows(dev).rows[0]) == [("Rain", "NP"), ("falls", "VP")]
    assert found(read_rows(dev, tags=train.tag_column).rows[0]) == []
    other = write(tmp_path / "two.txt", "Anna B-PER\nsaw O\n\nBob B-PER\n")
    assert found(read_rows(other, tags=train.tag_column).rows[0]) == [("Anna", "PER")]
    ud = write(tmp_path / "a.conllu", UD)
    assert read_rows(ud, tags=train.tag_column).rows == read_rows(ud).rows
    with pytest.raises(DataError, match="no column '4'"):
        read_rows(other, tags="4")


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("1 Anna B-PER\n2 Lee I-PER\n\n1 No O\n2 Ida B-PER\n", [("Anna Lee", "PER")]),  # words are counted
        ("# id a x=1\n# id b\nAnna _ _ B-PER\n# _ _ O\n\n# id b\nIn _ _ O\n", [("Anna", "PER")]),  # comments, '#'
        ("B-PER\tAnna\nI-PER\tLee\n\nO\tno\n", [("Anna Lee", "PER")]),  # the tag first
        ("Anna\tS-PER\nB\tB-ORG\nC\tM-ORG\nD\tE-ORG\n\nno\tO\n", [("Anna", "PER"), ("B C D", "ORG")]),  # BMES
        ("New York\tB-LOC\nis\tO\n\nbig\tO\n", [("New York", "LOC")]),  # a space in a word
        ("\u3000 O\nAnna B-PER\n\nno O\n", [("Anna", "PER")]),  # a word of white space
        ("\n\n \nAnna B-PER\nsaw O\n\n\n\t\nBob B-PER\nsat O\n\n\n", [("Anna", "PER")]),  # empty lines and tail
    ],
)  # fmt: skip
def test_columns_are_found(tmp_path: Path, content: str, want: list) -> None:
    path = write(tmp_path / "a.txt", content)
    assert looks_like_conll(path, content)
    table = read_conll(path)
    assert len(table.rows) == 2
    assert found(table.rows[0]) == want


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("# 17\nAnna B-PER\nLee I-PER\n\n# 18\nsaw O\n", ["Anna Lee", "saw"]),
        ("# one\n# sent 3\n# 17\nAnna B-PER\n\nsaw O\n", ["Anna", "saw"]),
        ("# B\nAnna B-PER\n\nsaw O\n", ["Anna", "saw"]),
        ("# O\nAnna B-PER\n\nsaw O\n", ["# Anna", "saw"]),
        ("# B-PER\nAnna I-PER\n\nsaw O\n", ["# Anna", "saw"]),
        ("# B-LOC\nAnna I-PER\n\nsaw O\n", ["# Anna", "saw"]),
        ("Anna B-PER\n# O\n17 O\n\nsaw O\n", ["Anna # 17", "saw"]),
        ("# NN O\nAnna NNP B-PER\n\nsaw VB O\n", ["# Anna", "saw"]),
        ("# sentence 17\nAnna NNP B-PER\n\nsaw VB O\n", ["Anna", "saw"]),
        ("# 17\nAnna NNP\nsaw VB\n\n# 18\nBob NNP\n", ["Anna saw", "Bob"]),  # no tags of chunks
        ("# #\nten CD\n\nBob NNP\nsaw VB\n", ["# ten", "Bob saw"]),
        ("# 17\nAnna 3\nsaw 4\n\nBob 3\n", ["# Anna saw", "Bob"]),  # the tags are numbers
    ],
)
def test_a_comment_of_as_many_cells_as_a_word_is_known_by_its_tag(tmp_path: Path, content: str, want: list) -> None:
    path = write(tmp_path / "a.txt", content)
    assert [row["text"] for row in read_conll(path).rows] == want


def test_a_number_behind_a_mark_and_a_tab_is_no_comment_but_a_bad_tag(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "#\t17\nAnna\tB-PER\n" + "saw\tO\n" * 40)
    with pytest.raises(DataError, match="'17' is no tag"):
        read_conll(path)


def test_parts_of_speech_are_one_span_a_word(tmp_path: Path) -> None:
    content = "The\tDT\ncat\tNN\n\nThe\tDT\ndog\tNN\nsat\tVBD\n\n" * 2
    path = write(tmp_path / "pos.txt", content)
    assert looks_like_conll(path, content)
    assert found(read_conll(path).rows[1]) == [("The", "DT"), ("dog", "NN"), ("sat", "VBD")]


def test_chinese_characters_are_joined_without_spaces(tmp_path: Path) -> None:
    content = "\u6211 O\n\u7231 O\n\u5317 B-LOC\n\u4eac I-LOC\n2 O\n0 O\niPad O\nPro O\n\uff0c O\nok O\n\n\u597d O\n"
    (row, _) = read_conll(write(tmp_path / "zh.txt", content)).rows
    assert row["text"] == "\u6211\u7231\u5317\u4eac20 iPad Pro\uff0cok"
    assert found(row) == [("\u5317\u4eac", "LOC")]
    assert "".join(forms(row)) == row["text"].replace(" ", "")


def test_digits_behind_the_characters_are_taken_off(tmp_path: Path) -> None:
    path = write(tmp_path / "weibo.train", "\u62101\tB-PER.NOM\n\u99990\tI-PER.NOM\n80\tO\n\n\u597d0\tO\n")
    (row, _) = read_conll(path).rows
    assert row["text"] == "\u6210\u99998"
    assert found(row) == [("\u6210\u9999", "PER.NOM")]


def test_a_stray_tag_is_read_as_conlleval_does_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Anna B-PER\nsaw O\nYork I-LOC\n\nBob B-PER\nLee I-PER\n\nIn O\nRome B-LOC\n")
    row = read_conll(path).rows[0]
    assert found(row) == [("Anna", "PER"), ("York", "LOC")]
    assert row["doubts"] == [(Span(9, 13, "LOC"), STRAY)]


def test_marked_documents_are_kept_if_there_are_enough(tmp_path: Path) -> None:
    content = "-DOCSTART- O\n\nAnna B-PER\n\nsaw O\n\n" * 10
    assert [row["document"] for row in read_conll(write(tmp_path / "a", content)).rows[:4]] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        ("Anna B-PER\nsaw O\nRome LOC B-LOC\n", ":3", "expected 2 columns, saw 3: 'Rome | LOC | B-LOC'"),
        ("Anna B-PER\nsaw\n\nRome B-LOC\n", ":2", "expected 2 columns, saw 1"),
        ("Anna\tB-PER\nsaw O\n\nRome\tB-LOC\n", ":2", "expected 2 columns, saw 1"),
        ("Anna B-PER\n\n O\nRome B-LOC\n", ":3", "no word before its tag"),
        ("Anna B-PER\n" * 40 + "\nRome BLOC\n", ":42", "'BLOC' is no tag"),
        ("\n\n", "", "no sentences"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, place: str, reason: str) -> None:
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(DataError) as caught:
        read_conll(path)
    assert reason in str(caught.value)
    assert caught.value.details["place"] == (f"{path}{place}" if place else path)


@pytest.mark.parametrize(
    ("lines", "place"),
    [(["Anna\tB-PER", "lives\tO", "Bob"], 3), (["A B-X", "b", "", "c O", "d O", "e"], 2)],
)
def test_the_name_of_a_small_file_wins_over_a_bad_line(tmp_path: Path, lines: list[str], place: int) -> None:
    path = tmp_path / "tiny.conll"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="expected 2 columns, saw 1") as caught:
        read_rows(path)
    assert (caught.value.code, caught.value.details["place"]) == ("ragged-row", f"{path}:{place}")


@pytest.mark.parametrize("mark", ["[", "{"])
@pytest.mark.parametrize("gap", [" ", "\t"])
def test_the_name_of_a_file_wins_over_a_bracket_as_its_first_word(tmp_path: Path, mark: str, gap: str) -> None:
    path = tmp_path / "tiny.conll"
    path.write_text(f"{mark} O\nAnna B-PER\n] O\n\nBob B-PER\n".replace(" ", gap))
    table = read_rows(path)
    assert (table.form, table.rows[0]["text"], found(table.rows[0])) == ("tagged", f"{mark} Anna ]", [("Anna", "PER")])


def test_rows_of_joined_words(tmp_path: Path) -> None:
    content = "text_a\tlabel\n\u5317\x02\u4eac\x02\u597d\tB-LOC\x02I-LOC\x02O\n\u597d\x02\u7684\tO\x02O\n"
    path = write(tmp_path / "dev.tsv", content)
    table = read_rows(path)
    assert (table.form, table.lines) == ("tagged", [2, 3])
    assert (table.rows[0]["text"], found(table.rows[0])) == ("\u5317\u4eac\u597d", [("\u5317\u4eac", "LOC")])
    with pytest.raises(DataError, match="3 words and 2 tags") as caught:
        read_rows(write(path, content.replace("\x02O\n", "\n", 1)))
    assert caught.value.details["place"] == f"{path}:2"


def test_conllu_gives_the_original_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", UD)
    assert looks_like_conllu(path, UD)
    first, second = read_conllu(path).rows
    assert first["text"] == 'I can\'t see "du vin".'
    assert forms(first) == ["I", "ca", "n't", "see", '"', "du", "vin", '"', "."]
    assert dict(found(first))["du"] == "ADP+DET"
    assert found(first)[1:3] == [("ca", "AUX"), ("n't", "PART")]
    assert (second["text"], found(second), forms(second)) == ("No!", [("No", "INTJ")], ["No", "!"])
    assert found(read_conllu(path, "xpos").rows[1]) == [("No", "UH"), ("!", ".")]
    assert read_conllu(path).lines == [1, 18]


def test_a_conllu_text_that_is_not_its_words_is_put_together_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", UD.replace("see \"du", "saw \"du"))  # fmt: skip
    assert read_conllu(path).rows[0]["text"] == 'I can\'t see "du vin".'
    path = write(tmp_path / "b.conllu", UD.replace("8\tvin\tvin\tNOUN", "8\tvin"))
    with pytest.raises(DataError, match="expected 10 columns") as caught:
        read_conllu(path)
    assert caught.value.details["place"] == f"{path}:14"


PER, LOC = {"start": 0, "end": 4, "label": "PER"}, {"start": 9, "end": 13, "label": "LOC"}
SPAN_LINES = [
    {"text": "Anna saw Rome", "spans": [PER, LOC]},
    {"text": "Anna saw Rome", "entities": [[0, 4, "PER"], [9, 13, "LOC"]]},
    {"data": "Anna saw Rome", "label": [[0, 4, "PER"], [9, 13, "LOC"]]},
    {"sentence": "Anna saw Rome", "entities": [
        {"start_offset": 0, "end_offset": 4, "type": "PER", "word": "Anna"}, {"begin": 9, "stop": 13, "tag": "LOC"}]},
    {"text": "Anna saw Rome", "label": {"PER": {"Anna": [[0, 3]]}, "LOC": {"Rome": [[9, 12]]}}},
    {"tokens": ["Anna", "saw", "Rome"], "ner_tags": ["B-PER", "O", "B-LOC"]},
]  # fmt: skip


@pytest.mark.parametrize("value", SPAN_LINES, ids=lambda value: "-".join(value))
@pytest.mark.parametrize("indent", [None, 2])
def test_spans_in_json(tmp_path: Path, value: dict, indent: int | None) -> None:
    content = (json.dumps(value, indent=indent, ensure_ascii=False) + "\n") * 2
    path = write(tmp_path / "a.jsonl", content)
    assert looks_like_span_json(path, content)
    table = read_span_json(path)
    assert len(table.rows) == 2
    assert table.lines[1] == 1 + content.count("\n") // 2
    for row in table.rows:
        assert row["text"] == "Anna saw Rome"
        assert found(row) == [("Anna", "PER"), ("Rome", "LOC")]
        assert "doubts" not in row


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "spans": [{"start": "0", "end": 1, "label": "X"}]}', "not two numbers and a label"),
        ('{"text": "a", "spans": [[0, 1]]}', "not two numbers and a label"),
        ('{"text": "a", "spans": 5}', "no list"),
        ('{"text": "a"}', "no 'spans'"),
        ('{"spans": []}', "no 'text'"),
        ('{"text": "a", "spans": [}', "not JSON"),
    ],
)
def test_bad_json_spans_are_named(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(SPAN_LINES[0]) + "\n" + line + "\n")
    with pytest.raises(DataError, match=reason) as caught:
        read_span_json(path)
    assert caught.value.details["place"] == f"{path}:2"


def test_tags_as_bare_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"tokens": ["a", "b"], "ner_tags": [0, 3]}\n')
    with pytest.raises(DataError, match="are numbers"):
        read_span_json(path)


def test_a_span_that_does_not_hold_its_text_is_doubted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", '{"text": "a bc", "spans": [{"start": 1, "end": 3, "label": "X", "text": "bc"}]}\n'
    )
    assert "'bc'" in read_span_json(path).rows[0]["doubts"][0][1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "text\tlabel\na film\tgood\nanother\tbad\n"),
        ("a.csv", "O,a\nB-X,b\n"),
        ("a.txt", "the cat\nthe dog\n\nit sat\nit ran\n\nwe saw\nyou did\n"),
        ("a.txt", "A line of text.\n\nAnother line.\n"),
        ("a.jsonl", '{"text": "a", "labels": ["x", "y"]}\n'),
        ("a.jsonl", '{"text": "a", "labels": []}\n{"text": "b", "labels": ["x"]}\n'),
        ("a.jsonl", '{"text": "a", "label": "x"}\n'),
        ("a.jsonl", '{"text": "a", "label": 1}\n'),
    ],
)  # fmt: skip
def test_other_files_are_not_taken_for_tagged_ones(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    write(path, content)
    assert not looks_like_conll(path, content)
    assert not looks_like_conllu(path, content)
    assert not looks_like_span_json(path, content)


@pytest.mark.parametrize(("name", "content"), [("a.x", FOUR), ("a.conllu", UD), ("a.jsonl", json.dumps(SPAN_LINES[4]))])
def test_the_common_door_recognises_them(tmp_path: Path, name: str, content: str) -> None:
    assert read_rows(write(tmp_path / name, content)).form == "tagged"


ROWS = st.lists(rows(), min_size=1, max_size=4)
FREE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@FREE
@given(given_rows=ROWS)
def test_spans_survive_json(tmp_path: Path, given_rows: list[dict]) -> None:
    path = tmp_path / "a.jsonl"
    write_span_json(Table(path, (), given_rows, [1] * len(given_rows), "tagged"), path)
    assert read_span_json(path).rows == given_rows


@FREE
@given(given_rows=ROWS, scheme=st.sampled_from(["bio", "bioes"]))
def test_words_and_spans_survive_conll(tmp_path: Path, given_rows: list[dict], scheme: str) -> None:
    path = tmp_path / "a.conll"
    filled = [row for row in given_rows if units(row["text"])]
    if not any(row["spans"] for row in filled):
        return
    write_conll(Table(path, (), filled, [1] * len(filled), "tagged"), path, scheme)
    back = read_conll(path).rows
    for row, again in zip(filled, back, strict=True):
        assert forms(again) == [row["text"][start:end] for start, end in units(row["text"])]
        assert [(letters(text), label) for text, label in found(again)] == [(letters(a), b) for a, b in found(row)]
    write_conll(Table(path, (), back, [1] * len(back), "tagged"), path, scheme)
    assert read_conll(path).rows == back
