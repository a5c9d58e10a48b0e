"""The commands that look at models, corpora and batches, as a user calls them."""

import json
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.masked_lm(), tmp_path_factory.mktemp("study") / "model")


def test_probe_blimp_shows_and_writes_the_same(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "agreement.jsonl"
    rows = [{"sentence_good": f"The cat was {n} here.", "sentence_bad": f"The cat were {n} here."} for n in range(5)]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    words = ["probe", "blimp", pairs, "--model", model, "--threads", 1, "--limit", 4, "--output", tmp_path / "o/a.json"]
    assert run(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "o/a.json").read_text()) == found
    assert found["paradigms"]["agreement"] == found["mean"]
    assert (found["mean"]["pairs"], found["within_word"], found["dtype"]) == (4, "l2r", "float32")
    assert run(*words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[:2] == ["agreement", f"{found['mean']['accuracy']:.4f}"]
    assert shown[-1].startswith("mean of 1 fields")


def test_probe_sentences_gives_sums_and_pieces(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sentences.txt"
    file.write_text("The cat sat on the mat.\nNobody saw it.\n")
    assert run("probe", "sentences", file, "--model", model, "--threads", 1, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == file.read_text().splitlines()
    for row in rows:
        assert "".join(piece for piece, _ in row["pieces"]) == row["text"]
        assert sum(score for _, score in row["pieces"]) == pytest.approx(row["pseudo_log_likelihood"], abs=1e-2)
    assert run("probe", "sentences", file, "--model", model, "--threads", 1) == 0
    caught = capsys.readouterr()
    total, mean, text = caught.out.splitlines()[0].split("\t")
    assert (float(total), text) == (pytest.approx(rows[0]["pseudo_log_likelihood"], abs=1e-3), rows[0]["text"])
    assert float(mean) == pytest.approx(float(total) / len(rows[0]["pieces"]), abs=1e-3)
    assert "2 sentences: pseudo-perplexity" in caught.err


def test_a_classifier_cannot_be_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    (tmp_path / "a.txt").write_text("a\n")
    assert run("probe", "sentences", tmp_path / "a.txt", "--model", folder) == 4
    assert "missing-weights" in capsys.readouterr().err
