"""Text to paragraphs and sentences, English and Chinese by one set of rules, without a language flag.

A sentence is the unit that packing never cuts. A wrong boundary costs little, so the rules are few: what ends a
sentence, which full stops belong to an abbreviation, and what the next word must look like.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never at the end of a sentence: a name or a number follows.
_BEFORE_NAME = _words(
    "Mr Mrs Ms Messrs Dr Drs Prof St Mt Ft Gen Adm Col Maj Capt Lt Cmdr Sgt Cpl Pvt Rep Sen Gov Pres Sec Amb Atty Rev "
    "Fr Hon Supt Insp Mme Mlle e.g i.e cf viz vs v approx ca c resp incl esp"
)
# An abbreviation only before a number: "No. 5", "Jan. 3", "p. 12".
_BEFORE_NUMBER = _words(
    "no nos p pp vol vols ch chap fig figs sec sect art para eq ed par op jan feb mar apr jun jul aug sep sept oct nov "
    "dec ver"
)
# May end a sentence; it does if the next word is one that begins sentences far more often than names.
_MAY_END = _words(
    "etc al Jr Sr Esq Inc Ltd Co Corp Bros Assn Dept Univ Est Ave Blvd Rd Ph.D M.D B.A M.A D.C a.m p.m A.M P.M "
    "Ala Ariz Ark Calif Colo Conn Del Fla Ga Ill Ind Kan Ky La Md Mass Mich Minn Miss Mo Mont Neb Nev Okla Ore Pa Tenn "
    "Tex Va Vt Wash Wis Wyo Jan Feb Aug Sept Oct Nov Dec"
)
_STARTERS = _words(
    "the a an this that these those there here it he she they we i you his her its their our my your who what when "
    "where why how if in on at by for from with without after before since during while although though because but "
    "and or so yet however moreover meanwhile then also as to of no not all some many most several both each one two "
    "another other according despite under over until"
)

_CLOSING = "\"'\u2019\u201d\u00bb)\\]}\u300d\u300f\u3011\u300b\u3009\uff09\uff3d"
_OPENING = "\"'\u2018\u201c\u00ab(\\[{\u300c\u300e\u3010\u300a\u3008\uff08\u2014\u2013*-"
_HAN = "\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

_VISIBLE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff]")
_LINE_END = re.compile(r"[\r\n]+")
# One character class first: the scan for it is several times faster than one for alternatives.
_CANDIDATE = re.compile(
    rf"(?P<stop>[.!?\u2026\u3002\uff01\uff1f\uff1b\uff61\u203d\u061f\u06d4\u0964\u0965]+)[{_CLOSING}]*"
)
# Stops that end a sentence whatever follows.
_WIDE = re.compile(r"[\u3002\uff01\uff1f\uff1b\uff61]|\u2026\u2026|\.{6}")
_HAN_OR_OPENING = re.compile(f"[{_HAN}\u201c\u300c\u300e\u300a\uff08]")
_NEXT_WORD = re.compile(rf"[\s{_OPENING}]*(?P<word>[^\W_]+(?:['\u2019]\w+)?)?")
_LAST_WORD = re.compile(r"[^\s\"'\u2018\u2019\u201c\u201d()\[\]{}\u2014\u2013/,;:]+$")
_ENUMERATOR = re.compile(r"[\s(\[*#-]*(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxlIVXL]{1,5})$")
_LIST_MARK = re.compile(r"\s+[(\[]?\w{1,2}[)\]]\s")
_CONTINUES = re.compile(r"\s*[\uff0c\u3001\uff1b\uff1a\u3002\uff01\uff1f,;:]")
_ACRONYM = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_LOOK_BACK = 40


def paragraphs(text: str) -> list[str]:
    """Cut a text at its line ends; lines without a visible character and blanks around a paragraph are dropped."""
    return [line.strip() for line in _LINE_END.split(text) if _VISIBLE.search(line)]


def sentence_ends(text: str) -> list[int]:
    """Find where sentences end.

    A line end always ends a sentence. A full stop does not within an abbreviation, after an initial or a list number,
    or before a small letter; closing quotes and brackets belong to the sentence that they close.

    Args:
        text: one or several paragraphs.

    Returns:
        The exclusive end of each sentence in characters, ascending; the blanks between two sentences belong to
        neither. The last one is the end of the text without trailing blanks; there is none for a blank text.
    """
    ends: list[int] = []
    start = 0
    for line_end in _LINE_END.finditer(text):
        _line_ends(text, start, line_end.start(), ends)
        start = line_end.end()
    _line_ends(text, start, len(text), ends)
    return ends


def _line_ends(text: str, begin: int, stop: int, ends: list[int]) -> None:
    """Add the ends of the sentences between two positions of one line."""
    stop = begin + len(text[begin:stop].rstrip())
    for match in _CANDIDATE.finditer(text, begin, stop):
        end = match.end()
        if end < stop and _is_end(text, begin, stop, match):
            ends.append(end)
            begin = end
    if stop > begin:
        ends.append(stop)


def _is_end(text: str, begin: int, stop: int, match: re.Match[str]) -> bool:
    mark, end = match["stop"], match.end()
    after = text[end]
    if _WIDE.search(mark):
        return not _CONTINUES.match(text, end)
    if not after.isspace():
        # Chinese text with Western stops has no blank behind them.
        if not _HAN_OR_OPENING.match(after):
            return False
        return mark[0] in "!?" or _HAN_OR_OPENING.match(text, match.start() - 1) is not None
    following = _NEXT_WORD.match(text, end, stop)
    word = (following["word"] if following else None) or ""
    if word[:1].islower() and _LIST_MARK.match(text, end):
        return True
    if word[:1].islower() or _CONTINUES.match(text, end):
        return False
    return mark != "." or _stop_ends(text, begin, match.start(), word)


def _stop_ends(text: str, begin: int, stop: int, following: str) -> bool:
    """Whether the single full stop at `stop` ends the sentence that begins at `begin`."""
    if _ENUMERATOR.match(text[begin:stop][:12]) and _ENUMERATOR.fullmatch(text[begin:stop]):
        return False
    found = _LAST_WORD.search(text, max(begin, stop - _LOOK_BACK), stop)
    last = found.group() if found else ""
    is_starter = following.lower() in _STARTERS
    if last in _BEFORE_NAME:
        return False
    if last.lower() in _BEFORE_NUMBER and following[:1].isdigit():
        return False
    is_initial = len(last) == 1 and last.isupper() and last.isascii()
    has_inner_stops = "." in last and _ACRONYM.fullmatch(last) is not None
    if is_initial or has_inner_stops or last in _MAY_END:
        return is_starter
    return True
