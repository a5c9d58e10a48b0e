"""What is given to a predictor in place of texts and rows."""

from typing import Any

import pytest

from tests import tiny
from unmask.errors import DataError
from unmask.predict import Predictor


@pytest.mark.parametrize(
    ("texts", "code", "said"),
    [
        (["a", None], "not-a-text", "type NoneType"),
        (["a", float("nan")], "not-a-text", "type float"),
        (["a", 3], "not-a-text", "type int"),
        (["a", b"abc"], "not-a-text", "type bytes"),
        (["a", {"text": None}], "not-a-text", "type NoneType"),
        (["a", ("b", "c")], "wrong-number-of-texts", "2 were given"),
        ("a", "not-a-list", "a single string"),
        ({"text": ["a"]}, "not-a-list", "type dict"),
        (7, "not-a-list", "type int"),
    ],
)
def test_what_is_no_text_is_named_with_its_number(texts: Any, code: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        Predictor(tiny.classifier())(texts)
    assert caught.value.code == code
    assert caught.value.details["place"] == (None if code == "not-a-list" else "text 2")


@pytest.mark.parametrize(
    ("rows", "code"), [({"text": ["a"]}, "not-a-list"), (["a text"], "not-a-row"), ([{"text": ["a"]}], "not-a-text")]
)
def test_what_is_no_row_is_named(rows: Any, code: str) -> None:
    with pytest.raises(DataError) as caught:
        Predictor(tiny.classifier()).predict_rows(rows)
    assert caught.value.code == code
