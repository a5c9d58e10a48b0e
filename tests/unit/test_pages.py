"""Pages: everything is escaped, marks are drawn where they stand."""

import re

import pytest

from unmask import pages


def test_marks_keep_the_text_and_show_what_overlaps() -> None:
    text = "Ana <b> went to Old York"
    marks = [(0, 3, "PER", "both"), (16, 24, "LOC", "gold"), (20, 24, "LOC", "answer")]
    drawn = pages.marked(text, marks)
    assert re.sub(r"<sub>.*?</sub>|<[^>]*>", "", drawn).replace("&lt;", "<").replace("&gt;", ">") == text
    assert re.findall(r"<mark class=(\w+)>([^<]*)", drawn) == [("both", "Ana"), ("gold", "Old "), ("both", "York")]
    assert drawn.count("<sub>LOC</sub>") == 2


def test_a_table_escapes_cells_but_not_markup() -> None:
    drawn = pages.table([("<a>", pages.Markup("<i>x</i>"), 0.12345)], ("<h>",))
    assert "&lt;a&gt;" in drawn
    assert "<i>x</i>" in drawn
    assert "&lt;h&gt;" in drawn
    assert "0.1235" in drawn or "0.1234" in drawn


def test_a_curve_puts_its_points_in_order_and_leaves_out_what_is_not_finite() -> None:
    drawn = pages.curve([(0, 1.0), (1, float("nan")), (2, 3.0)])
    points = re.search(r'points="([^"]*)"', drawn)
    assert points is not None
    (x0, y0), (x1, y1) = ([float(part) for part in one.split(",")] for one in points[1].split())
    assert x0 < x1
    assert y0 > y1, "the greater value stands higher"
    assert "too few" in pages.curve([(0, 1.0), (1, float("inf"))])


def test_dots_stand_in_the_order_of_their_values_on_a_band() -> None:
    drawn = pages.dots([("<b>", 0.9, False), ("low", 0.2, True)], middle=0.55, limits=(0.2, 0.9))
    high, low = (float(x) for x in re.findall(r"<circle cx=([\d.]+)", drawn))
    middle = re.search(r'd="M([\d.]+)', drawn)
    band = re.search(r"<rect x=([\d.]+) y=6 width=([\d.]+)", drawn)
    assert middle is not None
    assert band is not None
    assert float(middle[1]) == pytest.approx((low + high) / 2, abs=0.1)
    assert (float(band[1]), float(band[1]) + float(band[2])) == pytest.approx((low, high), abs=0.1)
    assert drawn.index('fill="#2457a8"') < drawn.index("#dc2626")
    assert "&lt;b&gt;" in drawn


@pytest.mark.parametrize(("value", "told"), [(12345.6, "12,346"), (7, "7"), (0.123456, "0.1235"), (1e-9, "1e-09")])
def test_numbers_are_short(value: float, told: str) -> None:
    assert pages.number(value) == told
