"""The commands that look at models, corpora and batches, as a user calls them."""

import json
from pathlib import Path

import pytest

from tests import runs, tiny
from unmask.cli import main
from unmask.train.pretrain import pretrain


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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n\n".join(f"{tiny.STORY} It was night {n}." for n in range(80)), "utf-8")
    tiny.tokenizer().save(folder / "tokenizer")
    words = ["corpus", "build", folder / "text.txt", "--tokenizer", folder / "tokenizer", "--output", folder / "corpus"]
    assert run(*words, "--processes", 1) == 0
    return folder / "corpus"


def test_inspect_corpus_as_text_and_json(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "corpus", corpus, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_documents"], found["duplicates"]) == (80, 0)
    assert run("inspect", "corpus", corpus, "--top", 3) == 0
    shown = capsys.readouterr().out
    assert f"tokens            {found['num_tokens']:,}" in shown
    assert "document at 0%: The cat sat on the mat. \u00a6 It looked at the moon." in shown


def test_inspect_batch_as_text_and_page(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "batch", "--corpus", corpus, "--block-length", 64, "--global-batch-size", 32, "--texts", 2]
    assert run(*words, "--step", 3) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nblock ") == 2
    assert "[MASK:" in shown
    assert "ALARM" not in shown
    assert run(*words, "--step", 4) == 0
    assert capsys.readouterr().out != shown
    assert run(*words, "--html", tmp_path / "batch.html") == 0
    assert (tmp_path / "batch.html").read_text().count("<div class=block>") == 2
    assert run(*words, "--step", 0) == 2
    assert run(*words, "--objective", "mlm+nsp") == 2


def test_plan_writes_a_recipe_that_pretrain_takes(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "plan.toml"
    words = ["plan", "--corpus", corpus, "--hours", 0.001, "--probe-seconds", 0, "--global-batch-size", 8]
    words += ["--micro-batch-size", 8, "--machine.threads", 1, "--output", recipe]
    assert run(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["is_measured"] for one in found["candidates"]] == [True, False, False, False]
    assert found["command"] == f"unmask pretrain --corpus {corpus} --output run --recipe {recipe}"
    again = ["pretrain", "--corpus", corpus, "--output", tmp_path / "run", "--recipe", recipe, "--max-steps", 2]
    assert run(*again) == 0
    assert f"hidden_size = {found['candidates'][found['chosen']]['hidden_size']}" in recipe.read_text()
    assert run(*words[:-2], "--hours", 0) == 2


def test_probe_corpus_gives_what_the_run_has_measured(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = runs.settings(block_length=64, held_out_tokens=262_144, eval_blocks=256, model={"max_length": 64})
    result = pretrain([corpus], tmp_path / "run", chosen)
    words = ["probe", "corpus", "--corpus", corpus, "--model", result.model, "--threads", 1]
    assert run(*words, "--lengths", 64, "--lengths", 32, "--json") == 0
    whole, half = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (whole["block_length"], half["block_length"]) == (64, 32)
    assert whole["nats_per_token"] == pytest.approx(result.loss, rel=1e-4)
    assert whole["bits_per_byte"] == pytest.approx(result.bits_per_byte, rel=1e-4)
    assert half["nats_per_token"] != whole["nats_per_token"]
    assert run(*words, "--lengths", 64) == 0
    assert capsys.readouterr().out.startswith(f"blocks of 64: {whole['nats_per_token']:.4f} nats")
    assert run(*words, "--lengths", 128) == 2
    assert "the model takes 64 tokens" in capsys.readouterr().err
    assert run("probe", "corpus", "--corpus", corpus, "--model", "unmask-small-en") == 2
    assert "another tokenizer" in capsys.readouterr().err
