"""The data inside the package is what its README says."""

import csv
import hashlib
import io
import lzma
import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

BUNDLED = Path(str(resources.files("unmask") / "bundled"))
MAX_BYTES = 1_500_000  # beside the models, which have a limit of their own


def rows(path: Path) -> list[list[str]]:
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    return list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="\n"), delimiter="\t", quoting=csv.QUOTE_NONE))


def key(message: str) -> str:
    return re.sub(r"[^a-z]+", " ", message.lower()).strip()


def is_test(message: str) -> bool:
    return int(hashlib.sha256(key(message).encode()).hexdigest(), 16) % 5 == 0


@pytest.mark.parametrize(("name", "ham", "spam"), [("train", 3810, 568), ("test", 1014, 157)])
def test_messages_are_split_by_their_text(name: str, ham: int, spam: int) -> None:
    header, *messages = rows(BUNDLED / "sms-spam" / f"{name}.tsv")
    assert header == ["label", "text"]
    assert Counter(label for label, _ in messages) == {"ham": ham, "spam": spam}
    assert all(is_test(text) == (name == "test") for _, text in messages)


def test_no_message_template_is_on_both_sides() -> None:
    files = (rows(BUNDLED / "sms-spam" / f"{name}.tsv")[1:] for name in ("train", "test"))
    train, test = ({key(text) for _, text in messages} for messages in files)
    assert not train & test


def test_the_texts_of_the_english_corpora_are_listed() -> None:
    read = rows(BUNDLED / "texts-of-small-en.tsv.xz")
    card = (BUNDLED / "models/unmask-small-en/README.md").read_text("utf-8")
    assert len({(source, number) for source, number in read}) == len(read)
    assert all(number.isdecimal() for _, number in read)
    counts = Counter(source for source, _ in read)
    assert counts.keys() == {"wikipedia", "wikinews", "gutenberg"}
    assert all(f"{count:,} " in card for count in counts.values())


@pytest.mark.parametrize(("name", "count"), [("train", 1465), ("test", 367)])
def test_verse_has_three_labels(name: str, count: int) -> None:
    header, *passages = rows(BUNDLED / "poetry-zh" / f"{name}.tsv.xz")
    assert header == ["label", "text"]
    assert len(passages) == len({text for _, text in passages}) == count
    assert len({label for label, _ in passages}) == 3


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("text-*/*")), ids=lambda path: path.name)
def test_text_is_clean_utf8(path: Path) -> None:
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    text = raw.decode("utf-8")
    assert len(text) > 50_000
    assert "\r" not in text
    assert not re.search("gutenberg|ebook", text, re.IGNORECASE)


def test_every_folder_is_attributed() -> None:
    folders = {path.name for path in BUNDLED.iterdir() if path.is_dir() and path.name != "__pycache__"}
    notice = (Path(__file__).parents[2] / "NOTICE").read_text("utf-8")
    attribution = (BUNDLED / "ATTRIBUTION.md").read_text("utf-8")
    assert all(f"`{name}/`" in attribution and f"- {name}:" in notice for name in folders)


def test_package_stays_small() -> None:
    files = [path for path in BUNDLED.rglob("*") if path.is_file() and "models" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
