"""Guesses of encodings: right where they can be, silent where they cannot."""

import pytest

from unmask.data.sniff import guess_encoding

ENGLISH = "It was the best of times, it was the worst of times. " * 4
FRENCH = "Le garçon a mangé du pâté à l'été dernier, près de la forêt où l'on s'arrête. "
GERMAN = "Die Größe der Brücke überrascht fünf Mädchen, die schöne Äpfel süß finden. "
CHINESE = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。我们今天去学校学习语文和数学。"
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (FRENCH, "latin-1", "ISO-8859-1"),
        (GERMAN, "latin-1", "ISO-8859-1"),
        (FRENCH + "\u201cbon\u201d \u2014 5 \u20ac", "cp1252", "CP1252"),
        (CHINESE, "gb18030", "GB18030"),
        (ENGLISH + CHINESE, "gbk", "GB18030"),
        (CHINESE, "utf-16", "UTF-16LE"),
        (CHINESE + "\n" * 3, "utf-16-le", "UTF-16LE"),
        (ENGLISH, "utf-16-be", "UTF-16BE"),
        (ENGLISH, "utf-32", "UTF-32LE"),
        (RUSSIAN, "cp1251", None),
        (RUSSIAN, "koi8-r", None),
        (ENGLISH, "ascii", None),
    ],
)
def test_guess(text: str, encoding: str, expected: str | None) -> None:
    assert guess_encoding(text.encode(encoding)) == expected


def test_damaged_utf8_is_still_utf8() -> None:
    data = (FRENCH * 3).encode()
    assert guess_encoding(data[:50] + b"\xff" + data[50:]) == "UTF-8"


def test_random_bytes_give_no_guess() -> None:
    assert guess_encoding(bytes(range(256)) * 4) is None
