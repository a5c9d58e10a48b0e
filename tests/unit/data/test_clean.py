"""Sentence boundaries, English and Chinese. In the table `|` marks where one sentence ends and the next begins."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.clean import paragraphs, sentence_ends

TABLE = [
    "Hello world.| It works.",
    "No stop at the end",
    "Is it so?| Yes!| Good.",
    "Mr. Smith met Dr. Jones in St. Louis.| They talked.",
    "J. K. Rowling and J. R. R. Tolkien wrote it.| So did I.| Then he left.",
    "It costs 3.14 dollars, or 1,000.50 in all.| Cheap.",
    "He lives in the U.S. Army base.| The U.S. Senate met.",
    "He moved to the U.S.| The move was hard.",
    "They sell fruit, e.g. Apples, i.e. Food.| Good.",
    "See Fig. 3 and Sec. 2.1 of No. 5.| No.| He did not.",
    "On Jan. 5 and Sept. 11 it rained.| Rain fell in 2004.| 15 people saw it.",
    "We met at 5 p.m. Tuesday.| It ended at 9 p.m.| He slept.",
    "Acme Inc. Chairman Bob left Foo Ltd.| The firm closed.",
    "Smith et al. Proved it.| Jones et al. did not.",
    "Apples, pears, etc. are fruit.| Nuts, etc.| The rest is here.",
    "She has a Ph.D. in physics.| He has a Ph.D.| He teaches.",
    '"Stop!" he said.| "Why?" she asked.| "Because."| He left.',
    "\u201cStop!\u201d he said.| \u201cGo.\u201d| They went.",
    "It ended (at last.)| He slept.| [Note.]| Done.",
    "He paused... and went on.| He stopped...| Then he went.",
    "Wait\u2026 what?| Oh\u2026| Yes.",
    "What?!| Really!!!| Yes.",
    "Visit www.example.com or mail a.b@c.org today.| Thanks.",
    "Version 2.0.1 is out.| Use it.",
    "1. First point.| 2. Second point.",
    "A. Option one",
    "1.2. A heading",
    "(a) One.| (b) Two.",
    "First line|\nSecond line|\nThird.",
    "One.|\n\nTwo.|\r\nThree|\rFour",
    "He said \u2018no.\u2019| She left.",
    "Go!| - Now.| \u2014 Never.",
    "Vitamin C. It helps.".replace("C. It", "C.| It"),
    "Gov. Brown of Calif. Spoke.| He left Calif.| The end.",
    "The end .| New one .",
    "天气很好。|我们走吧！|好吗？|好；|走。",
    "他说：“你好。”|她笑了。",
    "“停！”，他说。|“为什么？”|她问。",
    "他走了……|她没有。",
    "（完。）|下一句。",
    "《书。》|第二本。",
    "你好吗?|我很好!|真的.|走了.",
    "圆周率是3.14，重5.2公斤。|对。",
    "第一句。 |第二句。",
    "他来了。。。|走了！！|啊？！|好。",
    "他说。“走吧。”".replace("。“", "。|“"),
    "用 Python 3.11 写的。|It works.| 好。",
    "「行く。」|彼は言った。",
    "Mr. and Mrs. Smith vs. Jones, cf. Brown v. Board.| Over.",
    "He was ill.| Tom came.| It was art.| We saw it.",
    "What about pp. 3-5, vol. 2, ch. 7?| Good.",
    "The temperature was 5.| The wind blew.",
    "I met him.| iPhones were sold.".replace(".| i", ". i"),
]


@pytest.mark.parametrize("marked", TABLE)
def test_table(marked: str) -> None:
    text = marked.replace("|", "")
    assert [piece.strip() for piece in cut(text)] == [piece.strip() for piece in marked.split("|")]


@pytest.mark.parametrize("text", ["", " ", "\n\n", " \t\r\n "])
def test_blank_text_has_no_sentence(text: str) -> None:
    assert sentence_ends(text) == []
    assert paragraphs(text + "\x07\u200b\ufeff") == []


def test_paragraphs_are_lines() -> None:
    assert paragraphs(" a b \n\n\tc\r\nd\re\u2028f\x0bg\n") == ["a b", "c", "d", "e\u2028f\x0bg"]


@given(st.text(st.sampled_from("aA1 .?!\u2026\u3002\uff01\u201d\u201c\"')(\n\r\u5929\uff0c"), max_size=60))
def test_sentences_cover_the_text(text: str) -> None:
    ends = sentence_ends(text)
    assert ends == sorted(set(ends))
    assert all(piece.strip() for piece in cut(text))
    assert "".join(cut(text)).rstrip() == text.rstrip()
    assert all("\n" not in piece.strip() and "\r" not in piece.strip() for piece in cut(text))


@given(st.text(max_size=80))
def test_lines_are_independent(text: str) -> None:
    line = " ".join(paragraphs(text))
    ends = sentence_ends(line)
    assert sentence_ends(f"{line}\n{line}") == ends + [len(line) + 1 + end for end in ends]


def cut(text: str) -> list[str]:
    starts = [0, *sentence_ends(text)]
    return [text[start:end] for start, end in itertools.pairwise(starts)]
