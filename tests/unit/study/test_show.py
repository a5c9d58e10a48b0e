"""What is shown of a batch, read back."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from unmask.config import resolve
from unmask.study.batches import KEPT, MASKED, RANDOM, BlockView, GlobalBatch, batch_at
from unmask.study.page import page
from unmask.study.show import DOCUMENT, SENTENCE, block_text, borders, histogram, ranges, show
from unmask.train.settings import PretrainSettings

SMALL = {"block_length": 64, "global_batch_size": 64, "micro_batch_size": 32, "held_out_tokens": 500}


@pytest.fixture(scope="module")
def batch(folders: list[Path]) -> GlobalBatch:
    return batch_at(folders, resolve(PretrainSettings, SMALL, {"seed": 4, "masking": {"mask_prob": 0.3}}), step=1)


def plain(view: BlockView, batch: GlobalBatch) -> str:
    """The original text without spaces, and without the marks of borders."""
    text = "".join(
        batch.tokenizer.piece(piece).lstrip(" ") or batch.tokenizer.piece(piece) for piece in view.ids.tolist()
    )
    return bare("".join(one if one.isprintable() else ascii(one)[1:-1] for one in text))


def bare(text: str) -> str:
    return re.sub(rf"[\s{SENTENCE}{DOCUMENT}]", "", text)


def has_marks(view: BlockView, batch: GlobalBatch) -> bool:
    """Whether the predicted pieces themselves hold characters of the marks."""
    targets = view.fates >= MASKED
    text = "".join(map(batch.tokenizer.piece, [*view.ids[targets].tolist(), *view.seen[targets].tolist()]))
    return bool(set("[]{}:=") & set(text.replace(batch.tokenizer.mask_token, "")))


def test_marks_hold_the_original_text(batch: GlobalBatch) -> None:
    clear = [view for view in batch.views if not has_marks(view, batch)]
    assert len(clear) > 10
    for view in clear:
        text = block_text(view, batch.tokenizer, is_coloured=False).plain
        assert text.count("[MASK:") == (view.fates == MASKED).sum()
        read = re.sub(r"\[MASK:([^\]]*)\]", r"\1", text)
        read = re.sub(r"\{[^{}:]+:([^{}]*)\}", r"\1", read)
        read = re.sub(r"=([^=]+)=", r"\1", read)
        assert bare(read) == plain(view, batch)


def test_borders_are_marked_where_text_changes(batch: GlobalBatch) -> None:
    crossing = next(view for view in batch.views if view.num_documents > 1)
    marks = borders(crossing)
    assert marks.count(DOCUMENT) == crossing.num_documents - 1
    ordinary = crossing.sentences >= 0
    assert marks.count(DOCUMENT) + marks.count(SENTENCE) == len(np.unique(crossing.sentences[ordinary])) - 1
    at = marks.index(DOCUMENT)
    assert crossing.documents[at] == crossing.documents[ordinary][0] + 1
    assert crossing.ids[at - 1] == batch.tokenizer.sep_id


def test_a_terminal_gets_colours_and_a_file_marks(batch: GlobalBatch) -> None:
    file, terminal = io.StringIO(), io.StringIO()
    show(batch, texts=2, console=Console(file=file, width=200, highlight=False, markup=False))
    show(batch, texts=2, console=Console(file=terminal, force_terminal=True, color_system="256", width=200))
    assert "\x1b[" not in file.getvalue()
    assert "[MASK:" in file.getvalue()
    assert "\x1b[1;97;44m" in terminal.getvalue() or "\x1b[1;37;44m" in terminal.getvalue()
    assert "[MASK:" not in terminal.getvalue()
    assert file.getvalue().count("block ") >= 2


class Reader(HTMLParser):
    """Tags and texts of a page; `rt` holds the original of what stands beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.shown: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(f"{tag}.{dict(attributes).get('class', '')}")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop().partition(".")[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.shown.append((self.open[-1] if self.open else "", data))


def test_the_page_is_safe_and_holds_the_original_text(batch: GlobalBatch) -> None:
    hostile = [view for view in batch.views if "<script>" in plain(view, batch)]
    assert hostile
    chosen = GlobalBatch(1, hostile[:1], batch.stats, batch.tokenizer, ["<b>one</b>", "two"])
    text = page(chosen, texts=1)
    reader = Reader()
    reader.feed(text)
    assert not {"script", "img", "b", "link", "iframe"} & set(reader.tags)
    assert "http" not in text
    start = max(at for at, (place, _) in enumerate(reader.shown) if place.startswith("h3"))
    parts = reader.shown[start + 1 :]
    hidden = {"ruby.", "sub.at", "span.sentence", "div.document"}
    read = "".join(data for place, data in parts if place not in hidden)
    assert bare(read.replace("next document", "")) == plain(hostile[0], batch)
    counts = [sum(f'class="{name}"' in line for line in text.split("<span ")) for name in ("masked", "random", "kept")]
    assert counts == [int((hostile[0].fates == fate).sum()) for fate in (MASKED, RANDOM, KEPT)]


def test_ranges_cover_all_values_once() -> None:
    values = np.array([3, 3, 9, 22, 5, 14])
    counted = ranges(values, bins=4)
    assert counted == [(3, 7, 3), (8, 12, 1), (13, 17, 1), (18, 22, 1)]
    assert ranges(np.array([7, 7]), bins=4) == [(7, 7, 2)]
    lines = list(histogram(values, bins=4, width=6))
    assert [line.count("\u2588") for line in lines] == [6, 2, 2, 2]
