"""Turn unpacked research sets into files that `unmask suite` takes, with at most so many rows each.

    python benchmarks/task_sets.py SOURCE OUTPUT [--rows 4000] [--dev-rows 1000]
    unmask suite benchmarks/tasks.toml OUTPUT --model FOLDER --seeds 0,1,2 --output RESULTS

SOURCE holds the folders of the sets as they are published (sst2-glue, cola, conll2003, squad-1.1, ...), in any depth; a
set that is not there is left out. Rows are a fixed random choice, so that every model sees the same; of files of words
the first blocks are taken (CoNLL's marks of documents count), of questions whole paragraphs, in turn from all articles.
"""

import argparse
import html
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def some(rows: Sequence[Any], count: int) -> list[Any]:
    """A fixed random choice of rows, in their order."""
    chosen = sorted(random.Random(0).sample(range(len(rows)), min(count, len(rows))))
    return [rows[index] for index in chosen]


def lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """Lines of a file without their ends."""
    return [line.rstrip("\r") for line in path.read_text(encoding).split("\n") if line.strip()]


@dataclass(frozen=True)
class Tabbed:
    """A set in files with tabs and without quotes.

    Attributes:
        folder: its name.
        files: to train on and to score.
        names: of the columns, where a file has no header; those that start with a dash are left out.
        headers: whether each of the files has a header, which is skipped.
    """

    folder: str
    files: tuple[str, str]
    names: tuple[str, ...]
    headers: tuple[bool, bool] = (True, True)

    def read(self, folder: Path) -> list[Rows]:
        """Rows of both files; a line with too few cells is left out."""
        return [
            [
                {name: cell for name, cell in zip(self.names, row, strict=False) if not name.startswith("-")}
                for row in (line.split("\t") for line in lines(folder / file)[has_header:])
                if len(row) >= len(self.names)
            ]
            for file, has_header in zip(self.files, self.headers, strict=True)
        ]


BOTH = (False, False)
PAIR = ("sentence1", "sentence2", "label")
TABBED = {
    "sst2": Tabbed("sst2-glue", ("train.tsv", "dev.tsv"), ("text", "label")),
    "cola": Tabbed("cola", ("train.tsv", "val.tsv"), ("-source", "label", "-mark", "text"), BOTH),
    "mrpc": Tabbed("mrpc", ("train.tsv", "dev.tsv"), ("label", "-1", "-2", "sentence1", "sentence2")),
    "rte": Tabbed("rte", ("train.tsv", "val.tsv"), ("-index", *PAIR), (True, False)),
    "stsb": Tabbed(
        "sts-benchmark",
        ("sts-train.csv", "sts-dev.csv"),
        ("-genre", "-file", "-year", "-id", "score", "sentence1", "sentence2"),
        BOTH,
    ),
    "chnsenticorp": Tabbed("chnsenticorp", ("train.tsv", "dev.tsv"), ("label", "text")),
    "book_review": Tabbed("book_review", ("train.tsv", "dev.tsv"), ("label", "text")),
    "ewect": Tabbed("usual", ("train.tsv", "dev.tsv"), ("label", "text")),
}
COPIED = {  # set -> folder, files to train on and to score, whether sentences or questions are counted
    "conll2003": ("conll2003", "eng.train", "eng.testa"),
    "ewt": ("ud-english-ewt", "en_ewt-ud-train.conllu", "en_ewt-ud-dev.conllu"),
    "peopledaily": ("peopledaily", "train.txt", "dev.txt"),
    "weibo": ("weibo-ner", "weiboNER_2nd_conll.train", "weiboNER_2nd_conll.dev"),
    "squad1": ("squad-1.1", "train.json", "dev.json"),
    "squad2": ("squad-2.0", "train.json", "dev.json"),
    "cmrc": ("squad-format", "cmrc2018_trial.json", "cmrc2018_dev.json"),
}


def trec(folder: Path) -> list[Rows]:
    """Lines with a label, a space and a question, in Latin-1."""
    files = (folder / "TREC.train.all", folder / "TREC.test.all")
    return [
        [dict(zip(("label", "text"), one.split(" ", 1), strict=True)) for one in lines(file, "latin-1")]
        for file in files
    ]


def newsgroups(folder: Path) -> list[Rows]:
    """Messages without headers, quotes and signatures, which give the group away."""
    found: list[Rows] = []
    for part in ("20news-bydate-train", "20news-bydate-test"):
        found.append([])
        for path in sorted((folder / part).glob("*/*")):
            body = path.read_text("latin-1").partition("\n\n")[2].partition("\n-- \n")[0]
            text = "\n".join(line for line in body.split("\n") if not re.match(r"[>|:]|.*writes:$|In article", line))
            if len(text.split()) >= 5:
                found[-1].append({"text": re.sub(r"[\x00\r]", "", text), "label": path.parent.name})
    return found


def reuters(folder: Path) -> list[Rows]:
    """Articles of the ModApte split with their topics, the 20 most frequent ones."""
    found = [
        [row for path in sorted(folder.glob("*.sgm")) for row in articles(path.read_text("latin-1"), split)]
        for split in ("TRAIN", "TEST")
    ]
    names = {name for name, _ in Counter(name for row in found[0] for name in row["labels"]).most_common(20)}
    cut = [[row | {"labels": [name for name in row["labels"] if name in names]} for row in rows] for rows in found]
    return [[row for row in rows if row["labels"]] for rows in cut]


def articles(text: str, split: str) -> Iterator[dict[str, Any]]:
    """Title and body of each article of a split."""
    for article in re.findall(rf'<REUTERS TOPICS="YES" LEWISSPLIT="{split}".*?</REUTERS>', text, re.DOTALL):
        topics = re.search(r"<TOPICS>(.*?)</TOPICS>", article, re.DOTALL)
        parts = re.findall(r"<(?:TITLE|BODY)>(.*?)</(?:TITLE|BODY)>", article, re.DOTALL)
        words = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", html.unescape(" ".join(parts)))
        if topics and words.strip():
            yield {"text": words, "labels": re.findall(r"<D>(.*?)</D>", topics[1])}


def multi30k(folder: Path) -> list[Rows]:
    """Captions in English and German."""
    return [
        [
            {"source": english, "target": german}
            for english, german in zip(lines(folder / f"{name}.en"), lines(folder / f"{name}.de"), strict=True)
        ]
        for name in ("train", "val")
    ]


def ocnli(folder: Path) -> list[Rows]:
    """Pairs with a label; the last tenth is scored, because the dev set is not there."""
    rows = [json.loads(line) for line in lines(folder / "train.10k.json")]
    rows = [{name: row[name] for name in PAIR} for row in rows if row["label"] != "-"]
    return [rows[: len(rows) * 9 // 10], rows[len(rows) * 9 // 10 :]]


def cluener(folder: Path) -> list[Rows]:
    """Texts with names, one a line or printed over several; the last tenth is scored: the dev set is not there."""
    decoder, text, rows = json.JSONDecoder(), (folder / "train.json").read_text("utf-8").strip(), []
    while text:
        row, end = decoder.raw_decode(text)
        rows.append(row)
        text = text[end:].lstrip()
    return [rows[: len(rows) * 9 // 10], rows[len(rows) * 9 // 10 :]]


OTHERS: dict[str, tuple[str, Callable[[Path], list[Rows]]]] = {
    "trec": ("trec", trec),
    "20newsgroups": ("20newsgroups", newsgroups),
    "reuters": ("reuters-21578", reuters),
    "multi30k": ("multi30k", multi30k),
    "ocnli": ("ocnli", ocnli),
    "cluener": ("cluener", cluener),
}


def sentences(path: Path, count: int) -> str:
    """The first sentences of a file with one word a line, documents included."""
    blocks = path.read_text("utf-8").strip().split("\n\n")
    return "\n\n".join(blocks[:count]) + "\n"


def squad(path: Path, questions: int) -> str:
    """Whole paragraphs of a SQuAD file, taken in turn from its articles, up to a number of questions."""
    content = json.loads(path.read_text("utf-8"))
    taken, articles = 0, [{**article, "paragraphs": []} for article in content["data"]]
    for turn in range(max(len(article["paragraphs"]) for article in content["data"])):
        for article, source in zip(articles, content["data"], strict=True):
            if turn < len(source["paragraphs"]) and taken < questions:
                article["paragraphs"].append(source["paragraphs"][turn])
                taken += len(source["paragraphs"][turn]["qas"])
    return json.dumps({**content, "data": [one for one in articles if one["paragraphs"]]}, ensure_ascii=False)


def copied(path: Path, count: int) -> str:
    """A part of a file in its own format."""
    return squad(path, count) if path.suffix == ".json" else sentences(path, count)


def main() -> None:
    """Write all sets that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--dev-rows", type=int, default=1000)
    chosen = parser.parse_args()
    counts = (chosen.rows, chosen.dev_rows)
    found = sorted(
        (path for path in chosen.source.rglob("*") if path.is_dir()), key=lambda path: (len(path.parts), str(path))
    )
    folders = {path.name: path for path in reversed(found)}  # of two with one name the outer one
    chosen.output.mkdir(parents=True, exist_ok=True)
    readers = {name: (one.folder, one.read) for name, one in TABBED.items()} | OTHERS
    for name, (folder, read) in readers.items():
        if folder in folders:
            for part, rows, count in zip(("train", "dev"), read(folders[folder]), counts, strict=True):
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some(rows, count))
                (chosen.output / f"{name}.{part}.jsonl").write_text(text, "utf-8")
                print(f"{name:<14} {part:<6} {min(len(rows), count):>6} of {len(rows)} rows")
    for name, (folder, *files) in COPIED.items():
        if folder in folders:
            for part, file, count in zip(("train", "dev"), files, counts, strict=True):
                path = folders[folder] / file
                (
                    chosen.output / f"{name}.{part}{path.suffix if path.suffix in ('.json', '.conllu') else '.conll'}"
                ).write_text(copied(path, count), "utf-8")
                print(f"{name:<14} {part:<6}")


if __name__ == "__main__":
    main()
