"""The model folder: round trips through the reference library, and what a bad folder gets."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from tests import tiny
from tests.parity.hf_models import FAMILIES, Ours, Texts, reference, twin
from unmask import storage
from unmask.checkpoint import load_model, save_model
from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig, Head
from unmask.tokenizer.load import Tokenizer

TOLERANCE = 1e-5
LABELS = ["bad", "good", "so so"]
AUTO = {"masked_lm": AutoModelForMaskedLM, "classification": AutoModelForSequenceClassification}


def _small() -> Tokenizer:
    return tiny.tokenizer()


def _save(folder: Path, model: Ours, head: Head, **changes: object) -> Path:
    parts = {
        "config": model.encoder.config,
        "state_dict": model.state_dict(),
        "tokenizer": _small(),
        "head": head,
        "labels": LABELS if head == "classification" else None,
        "meta": {"task": {"name": head}},
        "card": "# A model\n",
        "golden": {"texts": []},
    }
    save_model(folder, **(parts | changes))  # type: ignore[arg-type]
    return folder


def _ours(head: Head, family: str = "roberta") -> Ours:
    config = EncoderConfig(
        family=family, vocab_size=_small().vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_length=64, type_vocab_size=1,
    )  # fmt: skip
    model = Ours(config, head)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _logits(model: Ours, head: Head, texts: Texts) -> torch.Tensor:
    return model.head(texts.encode(model, needed=texts.firsts if head == "classification" else None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _save(tmp_path / "model", _ours("classification"), "classification")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["masked_lm", "classification"])
@torch.no_grad()
def test_our_folder_opens_in_the_reference_library_and_here(tmp_path: Path, family: str, head: Head) -> None:
    model = _ours(head, family)
    path = _save(tmp_path / "model", model, head)
    texts = Texts(model.encoder.config)
    theirs, info = AUTO[head].from_pretrained(path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    want = theirs.eval()(**texts.padded(model.encoder.config.pad_token_id)).logits
    found = _logits(model, head, texts)
    torch.testing.assert_close(found, want if head == "classification" else want[texts.mask], atol=TOLERANCE, rtol=0)
    loaded = load_model(path)
    assert (loaded.config, loaded.head, loaded.missing) == (model.encoder.config, head, [])
    assert loaded.labels == (LABELS if head == "classification" else None)
    assert loaded.meta == {"task": {"name": head}}
    assert loaded.golden == {"texts": []}
    assert loaded.tokenizer.fingerprint == _small().fingerprint
    assert all(torch.equal(loaded.state_dict[name], tensor) for name, tensor in model.state_dict().items())
    if head == "classification":
        assert theirs.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["masked_lm", "classification"])
@torch.no_grad()
def test_a_folder_of_the_reference_library_opens_here(tmp_path: Path, family: str, head: Head) -> None:
    theirs = reference(family, head)
    theirs.resize_token_embeddings(_small().vocab_size)
    theirs.save_pretrained(tmp_path)
    _small().save(tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.head, loaded.missing, loaded.meta) == (head, [], {})
    assert loaded.labels == (["LABEL_0", "LABEL_1", "LABEL_2"] if head == "classification" else None)
    model = Ours(loaded.config, head).eval()
    model.load_state_dict(loaded.state_dict)
    texts = Texts(loaded.config)
    want = theirs.eval()(**texts.padded(theirs.config.pad_token_id)).logits
    want = want if head == "classification" else want[texts.mask]
    torch.testing.assert_close(_logits(model, head, texts), want, atol=TOLERANCE, rtol=0)
    other: Head = "classification" if head == "masked_lm" else "masked_lm"
    assert all(name.startswith("head.") for name in load_model(tmp_path, head=other).missing)
    assert load_model(tmp_path, head=other).missing


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    theirs = reference("roberta", "masked_lm")
    theirs.resize_token_embeddings(_small().vocab_size)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    _small().save(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    want = twin(theirs, "masked_lm").state_dict()
    found = load_model(tmp_path).state_dict
    assert all(torch.equal(found[name], tensor) for name, tensor in want.items())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    index["weight_map"] = {"a": "../secret.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ArtefactError, match="bad-index"):
        load_model(tmp_path)


def test_the_folder_is_whole_and_its_rights_follow_the_umask(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "unmask.json",
        "golden.json", storage.MANIFEST,
    }  # fmt: skip
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~umask}
    note = json.loads((folder / "unmask.json").read_text())
    assert note["fingerprints"]["weights"] == storage.digest(folder / "model.safetensors")
    assert note["versions"]["torch"] == torch.__version__


def test_saving_again_replaces_the_folder(folder: Path) -> None:
    _save(folder, _ours("masked_lm"), "masked_lm")
    assert load_model(folder).head == "masked_lm"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_changed_byte_or_a_lost_manifest_is_refused(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtefactError, match="corrupt"):
        load_model(folder)
    (folder / storage.MANIFEST).unlink()
    with pytest.raises(ArtefactError, match="no-manifest"):
        load_model(folder)


def _foreign(folder: Path) -> Path:
    """The same folder as another program would have written it."""
    (folder / storage.MANIFEST).unlink()
    (folder / "unmask.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda folder: shutil.rmtree(folder), "no-model"),
        (lambda folder: (folder / "config.json").unlink(), "no-model"),
        (lambda folder: (folder / "config.json").write_text("[]"), "bad-model-config"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no-weights"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "unsafe-weights"),
        (lambda folder: os.truncate(folder / "model.safetensors", 1000), "corrupt-weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "corrupt-weights"),
    ],
)
def test_bad_folders_are_named_with_a_remedy(folder: Path, harm, code: str) -> None:  # type: ignore[no-untyped-def]
    harm(_foreign(folder))
    with pytest.raises(ArtefactError) as caught:
        load_model(folder)
    assert caught.value.code == code
    assert str(folder) in str(caught.value.details["place"])
    assert caught.value.details["fix"]


def test_nan_in_the_weights_is_refused_and_named(folder: Path) -> None:
    path = _foreign(folder) / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["classifier.dense.bias"][3] = torch.nan
    safetensors.torch.save_file(weights, path)
    with pytest.raises(ArtefactError, match=r"nonfinite-weights(.|\n)*") as caught:
        load_model(folder)
    assert "classifier.dense.bias" in caught.value.reason


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    config = _ours("masked_lm").encoder.config.model_copy(update={"vocab_size": 50})
    _save(tmp_path / "other", Ours(config, "masked_lm"), "masked_lm")
    with pytest.raises(ArtefactError, match="tokenizer-mismatch"):
        load_model(tmp_path / "other")


def test_a_full_disk_leaves_the_older_folder_as_it_was(folder: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from unmask.checkpoint import load_model, save_model\n"
        "from unmask.errors import ResourceError\n"
        "path = Path(sys.argv[1]); model = load_model(path)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "try: save_model(path, config=model.config, state_dict=model.state_dict, tokenizer=model.tokenizer,\n"
        "    head=model.head, labels=model.labels, meta={}, card='', golden=None)\n"
        "except ResourceError as error: print(error.code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["disk-full"], done.stderr
    assert load_model(folder).meta == {"task": {"name": "classification"}}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
