"""Units of any text, and spans on them: what is off is said, drawn and mended as the policy has it."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from seqeval.metrics.sequence_labeling import get_entities

from tests.unit.data.texts import rows, texts
from unmask.data.spans import STRAY, Span, drawn, faults, fit, units
from unmask.data.tags import Chunk, TagSet, chunks_of, is_iob1, scheme_of, tags_for
from unmask.errors import DataError

TEXT = "Anna saw New York today"
WORDS = [(0, 4), (5, 8), (9, 12), (13, 17), (18, 23)]


def shown(text: str, rule: str) -> list[str]:
    return [text[start:end] for start, end in units(text, rule)]


@pytest.mark.parametrize(
    ("text", "runs", "joined"),
    [
        ("U.S. GDP", "U|.|S|.|GDP", "U.S.|GDP"),
        ("Obama's plan", "Obama|'|s|plan", "Obama|'s|plan"),
        ("O'Brien, 1,000.5 at 10:30.", "O|'|Brien|,|1|,|000|.|5|at|10|:|30|.", "O'Brien|,|1,000.5|at|10:30|."),
        ("al-Ani (x)", "al|-|Ani|(|x|)", "al-Ani|(|x|)"),
        ("\u5317\u4eac2008\u5e74\u3002", "\u5317|\u4eac|2008|\u5e74|\u3002", "\u5317|\u4eac|2008|\u5e74|\u3002"),
        ("e\u0301te\u0301\u00a0\u00e0", "e\u0301te\u0301|\u00e0", "e\u0301te\u0301|\u00e0"),
        (
            "\U0001f468\u200d\U0001f467\U0001f44d\U0001f3fd!",
            "\U0001f468\u200d\U0001f467|\U0001f44d\U0001f3fd|!",
            "\U0001f468\u200d\U0001f467|\U0001f44d\U0001f3fd|!",
        ),
        ("-- '", "-|-|'", "-|-|'"),
    ],
)
def test_units_of_known_texts(text: str, runs: str, joined: str) -> None:
    assert shown(text, "runs") == runs.split("|")
    assert shown(text, "joined") == joined.split("|")
    assert "".join(shown(text, "characters")) == "".join(text.split())


@given(texts())
@pytest.mark.parametrize("rule", ["runs", "joined", "characters"])
def test_units_are_in_order_and_together_all_that_is_no_space(rule: str, text: str) -> None:
    found = units(text, rule)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in found)
    covered = {at for start, end in found for at in range(start, end)}
    assert all(text[at].isspace() or not text[at].isprintable() for at in set(range(len(text))) - covered)


@given(texts())
def test_runs_never_cut_a_word_of_a_spaced_script(text: str) -> None:
    edges = {edge for one in units(text, "runs") for edge in one}
    for at in range(1, len(text)):
        if text[at - 1].isascii() and text[at].isascii() and text[at - 1].isalnum() and text[at].isalnum():
            assert at not in edges


@pytest.mark.parametrize(
    ("span", "reason", "contract", "expand"),
    [
        (Span(9, 17, "LOC"), None, Chunk(2, 4, "LOC"), Chunk(2, 4, "LOC")),
        (Span(10, 17, "LOC"), "begins or ends inside a word", Chunk(3, 4, "LOC"), Chunk(2, 4, "LOC")),
        (Span(9, 18, "LOC"), "begins or ends with white space", Chunk(2, 4, "LOC"), Chunk(2, 4, "LOC")),
        (Span(9, 19, "LOC"), "begins or ends inside a word", Chunk(2, 4, "LOC"), Chunk(2, 5, "LOC")),
        (Span(10, 11, "LOC"), "begins or ends inside a word", None, Chunk(2, 3, "LOC")),
        (Span(18, 30, "LOC"), "reaches out of the text", Chunk(4, 5, "LOC"), Chunk(4, 5, "LOC")),
        (Span(-1, 4, "LOC"), "reaches out of the text", Chunk(0, 1, "LOC"), Chunk(0, 1, "LOC")),
        (Span(5, 5, "LOC"), "is empty", None, None),
    ],
)  # fmt: skip
def test_spans_that_are_off(span: Span, reason: str | None, contract: Chunk | None, expand: Chunk | None) -> None:
    assert [why.split(",")[0] for _, why in faults(TEXT, [span], WORDS)] == ([reason] if reason else [])
    assert fit(TEXT, [span], WORDS, policy="contract") == ([contract] if contract else [])
    assert fit(TEXT, [span], WORDS, policy="expand") == ([expand] if expand else [])
    if reason:
        assert fit(TEXT, [span], WORDS, policy="drop") == []
        with pytest.raises(DataError, match=reason) as caught:
            fit(TEXT, [span], WORDS, place="f.jsonl:7")
        assert caught.value.details["place"] == "f.jsonl:7"


def test_of_overlapping_spans_the_longer_one_stays_or_both_are_named() -> None:
    spans = [Span(9, 17, "LOC"), Span(13, 17, "PER"), Span(0, 4, "PER")]
    assert fit(TEXT, spans, WORDS, policy="expand") == [Chunk(0, 1, "PER"), Chunk(2, 4, "LOC")]
    assert fit(TEXT, spans, WORDS, policy="drop") == [Chunk(0, 1, "PER"), Chunk(2, 4, "LOC")]
    with pytest.raises(DataError, match="overlaps with 'New York'"):
        fit(TEXT, spans, WORDS)


def test_a_stray_tag_begins_a_chunk_unless_strict_or_dropped() -> None:
    span = Span(9, 17, "LOC")
    doubts = [(span, STRAY)]
    assert fit(TEXT, [span], WORDS, doubts=doubts) == [Chunk(2, 4, "LOC")]
    assert fit(TEXT, [span], WORDS, doubts=doubts, policy="drop") == []
    with pytest.raises(DataError, match="has not begun"):
        fit(TEXT, [span], WORDS, doubts=doubts, policy="strict")


@pytest.mark.parametrize(
    ("text", "span", "marks"),
    [
        ("Anna saw New York", Span(9, 17, "LOC"), "             ^^^^^^^^ LOC"),
        ("\u6211\u7231\u5317\u4eac", Span(2, 4, "LOC"), "        ^^^^ LOC"),
        ("e\u0301 \u00e9 b", Span(5, 6, "X"), "        ^ X"),
        ("a\tb\nc", Span(4, 5, "X"), "        ^ X"),
        ("abc", Span(3, 9, "X"), "       ^ X"),
    ],
)
def test_marks_stand_under_the_span(text: str, span: Span, marks: str) -> None:
    above, below = drawn(text, span).split("\n")
    assert below == marks
    assert "\t" not in above


def test_only_the_surroundings_of_a_long_text_are_drawn() -> None:
    text = "word " * 1000 + "NAME " + "word " * 1000
    above, below = drawn(text, Span(5000, 5004, "PER")).split("\n")
    assert len(above) < 100
    assert above[below.index("^") : below.index("^") + 4] == "NAME"


def test_chunks_are_those_of_seqeval() -> None:
    rng = random.Random(0)
    pool = ["O", *(f"{prefix}-{label}" for prefix in "BIES" for label in ("PER", "LOC"))]
    for _ in range(2000):
        tags = rng.choices(pool, k=rng.randint(1, 9))
        assert [(c.label, c.first, c.end - 1) for c in chunks_of(tags)] == get_entities(tags)


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_tags_and_chunks_go_there_and_back(scheme: str) -> None:
    tagset = TagSet(tags_for(["LOC", "PER"], scheme), scheme)
    chunks = [Chunk(0, 1, "PER"), Chunk(1, 3, "PER"), Chunk(4, 7, "LOC"), Chunk(7, 8, "LOC")]
    ids = tagset.ids_of(chunks, 9)
    assert tagset.chunks_of(ids) == chunks
    assert scheme_of(tagset.tags) == scheme
    tags = [tagset.tags[id] for id in ids]
    assert tags[4:8] == (
        ["B-LOC", "I-LOC", "I-LOC", "B-LOC"] if scheme == "bio" else ["B-LOC", "I-LOC", "E-LOC", "S-LOC"]
    )


@pytest.mark.parametrize(
    ("tags", "want"),
    [
        ("O B-PER L-PER U-LOC O", [Chunk(1, 3, "PER"), Chunk(3, 4, "LOC")]),  # BILOU
        ("B-PER M-PER E-PER S-LOC", [Chunk(0, 3, "PER"), Chunk(3, 4, "LOC")]),  # BMES
        ("I-PER I-PER B-PER I-LOC", [Chunk(0, 2, "PER", True), Chunk(2, 3, "PER"), Chunk(3, 4, "LOC", True)]),  # IOB1
        ("B I O B", [Chunk(0, 2, "CHUNK"), Chunk(3, 4, "CHUNK")]),
    ],
)
def test_every_scheme_is_read(tags: str, want: list[Chunk]) -> None:
    assert chunks_of(tags.split()) == want


def test_bare_labels_are_runs() -> None:
    tagset = TagSet(["O", "PER", "LOC"], scheme_of(["O", "PER", "LOC"]))
    assert tagset.scheme == "io"
    assert [tuple(one)[:3] for one in tagset.chunks_of([1, 1, 0, 2, 1])] == [
        (0, 2, "PER"),
        (3, 4, "LOC"),
        (4, 5, "PER"),
    ]
    assert tagset.ids_of([Chunk(0, 2, "LOC")], 3) == [2, 2, 0]


def test_a_published_set_of_tags_without_some_is_used_as_it_is() -> None:
    assert TagSet(["O", "I-PER", "I-LOC", "B-LOC"], "bio").ids_of([Chunk(0, 2, "PER"), Chunk(2, 3, "LOC")], 3) == [
        1,
        1,
        3,
    ]
    bilou = TagSet(["O", "B-X", "I-X", "L-X", "U-X"], "bioes")
    assert bilou.ids_of([Chunk(0, 3, "X"), Chunk(3, 4, "X")], 4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("sentences", "want"),
    [
        (["I-A I-A B-A O", "I-B O"], True),
        (["B-A I-A O", "B-B O"], False),
        (["B-A I-A O I-B", "B-B O", "B-A"], False),
        (["O O"], False),
    ],
)
def test_iob1_is_known_by_how_chunks_begin(sentences: list[str], want: bool) -> None:
    assert is_iob1([one.split() for one in sentences]) is want


@given(rows())
def test_fitted_spans_are_the_spans(row: dict) -> None:
    words = units(row["text"])
    assert faults(row["text"], row["spans"], words) == []
    for policy in (None, "strict", "contract", "expand", "drop"):
        chunks = fit(row["text"], row["spans"], words, policy=policy)
        assert [Span(words[c.first][0], words[c.end - 1][1], c.label) for c in chunks] == row["spans"]
