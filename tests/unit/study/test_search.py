"""Vectors of a file and search in them: formats, chunks, caches, brute force, and the two commands."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests import tiny
from unmask.cli import main
from unmask.errors import DataError, UsageError
from unmask.study import search as module
from unmask.study.search import (
    Hit,
    cached_vectors,
    find,
    open_embedder,
    read_cache,
    read_texts,
    search,
    write_vectors,
)

TEXTS = [*tiny.GOOD, *tiny.BAD, "你好 🙂"]
LINES = [*TEXTS[:3], "", *TEXTS[3:], " "]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.saved(tiny.embedder(), tmp_path / "model")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_search_is_brute_force_and_keeps_the_order_of_equals() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-2, 3, (60, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    vectors[7] = 0
    for query, hits in zip(queries, search(queries, vectors, top_k=20), strict=True):
        scores = {}
        for at, one in enumerate(vectors):
            if one.any():
                scores[at] = float(one @ query) / float(np.linalg.norm(one)) / float(np.linalg.norm(query))
        want = sorted(scores.values(), reverse=True)[:20]
        np.testing.assert_allclose([hit.score for hit in hits], want, atol=1e-6)
        assert all(abs(scores[hit.index] - hit.score) < 1e-6 for hit in hits)
    same = np.array([[0, 1], [1, 0], [2, 0], [0, 3], [4, 0]], np.float32)
    assert [hit.index for hit in search(np.array([[1, 0]], np.float32), same, top_k=2)[0]] == [1, 2]
    assert len(search(np.ones((1, 2)), same, top_k=99)[0]) == 5
    same[1] = 0
    assert [hit.index for hit in search(-np.ones((1, 2)), same, top_k=99)[0]] == [0, 2, 3, 4], "zeros are no hit"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl"])
def test_a_file_of_vectors_is_written_in_chunks(
    folder: Path, file: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    predictor = open_embedder(folder)
    want = np.zeros((len(LINES), 32), np.float32)
    want[[at for at, line in enumerate(LINES) if line.strip()]] = [one.vector for one in predictor(TEXTS)]
    output = tmp_path / "out" / f"vectors{suffix}"
    texts = read_texts(file, folder, predictor)
    assert write_vectors(predictor, texts, output) == (len(LINES), 32)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["text"] for row in rows] == LINES
        assert [row["place"] for row in rows] == [f"{file}:{number}" for number in range(1, len(LINES) + 1)]
        found = np.array([row["vector"] for row in rows], np.float32)
        assert found.tolist() == np.array([row["vector"] for row in rows]).astype(np.float32).tolist()
    else:
        found = np.load(output) if suffix == ".npy" else read_cache(output)[1]
        assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_kept_vectors_are_used_until_file_or_settings_change(
    folder: Path, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor, cache = open_embedder(folder), tmp_path / "vectors.npz"
    texts = read_texts(file, folder, predictor)
    first = cached_vectors(predictor, texts, cache)
    np.testing.assert_allclose(first, cached_vectors(predictor, texts, None), atol=1e-6)
    marked = np.zeros_like(first)
    np.savez(cache, vectors=marked, key=np.array(texts.key))
    assert not cached_vectors(predictor, texts, cache).any(), "the kept ones"
    other = open_embedder(folder, pooling="cls")
    with caplog.at_level("INFO", "unmask"):
        assert cached_vectors(other, read_texts(file, folder, other), cache).any()
    assert "made anew" in caplog.text
    file.write_text("one more\n" + file.read_text())
    assert len(cached_vectors(predictor, read_texts(file, folder, predictor), cache)) == len(LINES) + 1
    cache.write_bytes(cache.read_bytes()[:100])
    with pytest.raises(DataError, match="holds no vectors"):
        cached_vectors(predictor, texts, cache)


def test_an_empty_text_of_a_table_names_its_line_and_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\none\tgood\n \tbad\n")
    predictor, output = open_embedder(folder), tmp_path / "out" / "x.npy"
    with pytest.raises(DataError, match="empty") as caught:
        write_vectors(predictor, read_texts(file, folder, predictor), output)
    assert caught.value.details["place"] == f"{file}:3"
    assert not list(output.parent.iterdir())
    with pytest.raises(UsageError, match="does not say its format"):
        write_vectors(predictor, read_texts(file, folder, predictor), tmp_path / "x.csv")


def test_a_text_finds_itself(folder: Path, file: Path) -> None:
    predictor = open_embedder(folder)
    vectors = cached_vectors(predictor, read_texts(file, folder, predictor), None)
    for text, hits in zip(TEXTS, find(predictor, TEXTS, vectors, top_k=1), strict=True):
        assert hits[0] == Hit(LINES.index(text), pytest.approx(1, abs=1e-5))
    file.write_text("\n \n")
    with pytest.raises(DataError, match="has no texts"):
        read_texts(file, folder, predictor)


def test_the_commands(folder: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--model", str(folder), "--threads", "1"])
        told = capsys.readouterr()
        assert ended.value.code == 0, told.err
        return told.out, told.err

    out, err = run("embed", file, "--output", tmp_path / "v.npz", "--layers", 1, "--layers", -1)
    assert "11 vectors of 32 numbers" in out
    assert f"2 of 11 lines are empty and have vectors of zeros, first {file}:4" in err
    lines = run("search", TEXTS[3], "--file", file, "--top-k", 2, "--vectors", tmp_path / "w.npz")[0].splitlines()
    assert lines[0] == f"1.0000\t{file}:5\t{TEXTS[3]}"
    assert len(lines) == 2
    found = [json.loads(line) for line in run("search", "a", "b", "--file", file, "--json")[0].splitlines()]
    assert [one["query"] for one in found] == ["a"] * 5 + ["b"] * 5


def test_queries_come_from_standard_input(
    folder: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{TEXTS[3]}\n".encode(), b"\n", b"b"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=iter(lines), isatty=lambda: False))
    command = ["search", "--file", str(file), "--model", str(folder), "--top-k", "1", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert not ended.value.code
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["query"] for one in found] == [TEXTS[3], "b"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2, "nobody is asked to type"


def test_vectors_are_written_over_no_file(folder: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["embed", str(file), "--output", str(tmp_path / "v.npy"), "--model", str(folder)])
    assert ended.value.code == 2
    assert (tmp_path / "v.npy").read_text() == "mine"
