"""Strategies for hypothesis: texts of odd characters, and spans on their words."""

from hypothesis import strategies as st

from unmask.data.spans import Span, UnitRule, units

PARTS = (
    *("Anna", "New York", "e\u0301te\u0301", "na\u00efve", "\ufb01ne", "3,5", "'s", "<s>", "<mask>", "\u0301"),
    *("\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947"),
    *("\u5317\u4eac", "\u6771\u4eac\u90fd", "\u304b\u306a", "\u0e44\u0e17\u0e22", "\U00020000", "\uff0c"),
    *("\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\u2764\ufe0f"),
    *(" ", "  ", "\t", "\u00a0", "\u3000", "\r\n", "\n", "\u200b", "\u202e", "\ufeff", ".", "...", "-"),
)
LABELS = ("LOC", "PER")


def texts() -> st.SearchStrategy[str]:
    """Texts of the parts above and of any other characters, with something in them."""
    anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
    return (
        st.lists(st.one_of(st.sampled_from(PARTS), anything), min_size=1, max_size=14)
        .map("".join)
        .filter(lambda text: bool(text.strip()))
    )


@st.composite
def rows(draw: st.DrawFn, rule: UnitRule = "runs") -> dict:
    """Rows of the form `tagged` without words: a text and spans on runs of its units."""
    text = draw(texts())
    found = units(text, rule)
    spans, at = [], 0
    while at < len(found):
        if draw(st.booleans()):
            end = draw(st.integers(at + 1, min(len(found), at + 3)))
            spans.append(Span(found[at][0], found[end - 1][1], draw(st.sampled_from(LABELS))))
            at = end
        else:
            at += 1
    return {"text": text, "words": None, "spans": spans}
