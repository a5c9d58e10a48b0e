"""WordPiece forgets where spaces stood and puts one between all tokens: which of them are taken out of written text."""

import re

# Han characters, kana, and the punctuation that comes with them.
_WIDE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\u2018-\u201d\u2026\U00020000-\U0003ffff"
_BESIDE_WIDE = re.compile(f"(?<=[{_WIDE}]) | (?=[{_WIDE}])")
_CONTRACTION = re.compile(r"(?<=\w) ' (?=(?:s|t|re|ve|ll|d|m)\b)", re.IGNORECASE)


def join_tokens(text: str) -> str:
    """Join what a WordPiece tokenizer decoded, as it is usually written: no spaces beside Han, `don't` as one word."""
    return _CONTRACTION.sub("'", _BESIDE_WIDE.sub("", text))
