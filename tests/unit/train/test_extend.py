"""A model folder with more pieces: it opens here and in transformers, and answers old questions as before."""

from pathlib import Path

import pytest
import torch
import transformers

from tests import tiny
from tests.unit.tokenizer.samples import bert_folder
from unmask import golden
from unmask.checkpoint import load_model
from unmask.cli import main
from unmask.compress.quantize import quantize
from unmask.data.rows import Table
from unmask.errors import UsageError
from unmask.predict import Predictor
from unmask.tokenizer.load import Tokenizer
from unmask.train.extend import extend_model

TEXT = "\n".join(f"Thrombolysis of the patient with myocarditis, case {number}." for number in range(60))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "domain.txt"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.fixture
def extended(text: Path, tmp_path: Path) -> Path:
    tiny.saved(tiny.masked_lm(), tmp_path / "old")
    (tmp_path / "old" / "README.md").write_text("# Old card\n")
    (tmp_path / "old" / "MANIFEST.json").unlink()
    (tmp_path / "old" / "unmask.json").unlink()
    extend_model([text], model=tmp_path / "old", output=tmp_path / "new", num_pieces=20)
    return tmp_path / "new"


def logits(folder: Path, sequence: list[int], mask_id: int) -> torch.Tensor:
    """Scores of all pieces at the mask."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        found = model(torch.tensor([sequence])).logits[0]
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    return found[sequence.index(mask_id)]


def test_the_folder_opens_and_is_certified(extended: Path) -> None:
    assert golden.verify(extended)["texts"] == 3
    [answer] = Predictor.load(extended)(["Thrombolysis of the <mask>."])
    assert len(answer.masks[0].candidates) == 5
    old, new = load_model(extended.parent / "old"), load_model(extended)
    assert new.config.vocab_size == old.config.vocab_size + 20 == new.tokenizer.vocab_size
    assert new.meta["extension"]["pieces"] == 20
    assert new.meta["extension"]["fertility_after"] < new.meta["extension"]["fertility_before"]
    card = (extended / "README.md").read_text()
    assert card.startswith("# new\n\n## Added pieces")
    assert "20 new pieces" in card


def test_old_logits_stay_and_new_ones_are_means(extended: Path) -> None:
    old = Tokenizer.load(extended.parent / "old")
    sequence = old.assemble(old.encode_masked("a fine and <mask> film"), max_length=64).input_ids.tolist()
    before, after = (logits(folder, sequence, old.mask_id) for folder in (extended.parent / "old", extended))
    torch.testing.assert_close(after[: old.vocab_size], before, rtol=0, atol=1e-6)
    new = Tokenizer.load(extended)
    for id in range(old.vocab_size, new.vocab_size):
        parts = old.encode_ids([new.piece(id)])[0].tolist()
        torch.testing.assert_close(after[id], before[parts].mean(), rtol=0, atol=1e-5)


def test_transformers_reads_text_with_the_new_pieces(extended: Path) -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(extended), Tokenizer.load(extended)
    ids = theirs(TEXT)["input_ids"]
    assert ids == ours.assemble(ours.encode([TEXT])[0], max_length=len(ids)).input_ids.tolist()
    assert max(ids) >= 400


def test_a_model_in_bert_form(text: Path, tmp_path: Path) -> None:
    vocab_size = Tokenizer.load(bert_folder(tmp_path / "old")).vocab_size
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    published = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=vocab_size, **sizes))
    published.save_pretrained(tmp_path / "old")
    extend_model([text], model=tmp_path / "old", output=tmp_path / "new", num_pieces=3)
    assert golden.verify(tmp_path / "new")["texts"] == 3
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "new")
    assert model.get_input_embeddings().num_embeddings == vocab_size + 3
    assert len(Tokenizer.load(tmp_path / "new").encode_ids(["thrombolysis"])[0]) == 1


def test_a_classifier_keeps_its_answers(text: Path, tmp_path: Path) -> None:
    tiny.saved(tiny.classifier(), tmp_path / "old")
    extend_model([text], model=tmp_path / "old", output=tmp_path / "new", num_pieces=5)
    old, new = (Predictor.load(tmp_path / name)(list(tiny.GOOD)) for name in ("old", "new"))
    assert [one.label for one in old] == [one.label for one in new]


def test_certificates_of_the_old_pieces_are_left_behind(text: Path, tmp_path: Path) -> None:
    task = tiny.classifier()
    rows = tiny.rows_of(task)
    dev = Table(tmp_path / "dev", ("text", "label"), rows, list(range(1, len(rows) + 1)))
    folder = tiny.saved(task, tmp_path / "model")
    quantize(folder, task, dev, tmp_path / "old", max_drop=100, engine="torch", threads=1)
    extend_model([text], model=tmp_path / "old", output=tmp_path / "new", num_pieces=20)
    assert "engine" in load_model(tmp_path / "old").meta
    assert "engine" not in load_model(tmp_path / "new").meta
    assert "## Precisions" in (tmp_path / "old" / "README.md").read_text()
    assert "## Precisions" not in (tmp_path / "new" / "README.md").read_text()


def test_what_is_refused(text: Path, tmp_path: Path) -> None:
    folder = tiny.saved(tiny.masked_lm(), tmp_path / "old")
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="exists"):
        extend_model([text], model=folder, output=tmp_path / "taken", num_pieces=5)
    assert not list((tmp_path / "taken").iterdir())


def test_the_command(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.saved(tiny.masked_lm(), tmp_path / "old")
    words = ["tokenizer", "extend", text, "--model", tmp_path / "old", "--output", tmp_path / "new", "--add", 5]
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    found = capfd.readouterr()
    assert caught.value.code == 0
    assert found.out == f"model: {tmp_path / 'new'}\n"
    assert "5 new pieces" in found.err
    assert "fertility" in found.err


def test_an_extended_folder_of_vectors_is_still_one_of_sentence_transformers(text: Path, tmp_path: Path) -> None:
    old = tiny.saved(tiny.embedder(), tmp_path / "vectors")
    extend_model([text], model=old, output=tmp_path / "more", num_pieces=20)
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        assert (tmp_path / "more" / name).read_text() == (old / name).read_text()
    assert Predictor.load(tmp_path / "more").task.name == "embedding"
