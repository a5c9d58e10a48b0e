"""Which folders load, what is refused, and that a saved folder is the same tokenizer."""

import json
import pickle
from pathlib import Path

import pytest

from tests.unit.tokenizer.samples import ENGLISH, FAMILIES, NASTY, bert_folder, folder_of, roberta_folder, xlmr_folder
from unmask.errors import ArtefactError
from unmask.tokenizer.load import Tokenizer


def edit(folder: Path, **changes: object) -> Path:
    """Change top-level parts of a folder's tokenizer.json."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **changes}), "utf-8")
    return folder


def ids(tokenizer: Tokenizer, texts: tuple[str, ...]) -> list[list[int]]:
    return [found.tolist() for found in tokenizer.encode_ids(list(texts))]


@pytest.mark.parametrize("family", FAMILIES)
def test_family_and_special_ids(family: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(folder_of(family, tmp_path / "published"))
    assert tokenizer.family == family
    names = [tokenizer.piece(id) for id in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id)]
    is_bert = family == "bert"
    assert names == (["[CLS]", "[SEP]", "[PAD]", "[UNK]"] if is_bert else ["<s>", "</s>", "<pad>", "<unk>"])
    assert tokenizer.piece(tokenizer.mask_id) == tokenizer.mask_token == ("[MASK]" if is_bert else "<mask>")
    assert tokenizer.special_ids.tolist() == ([0, 1, 2, 3, 4] if is_bert else [0, 1, 2, 3, tokenizer.vocab_size - 1])
    assert tokenizer.ids() == list(range(tokenizer.vocab_size))


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_folder_is_the_same_tokenizer(family: str, tmp_path: Path) -> None:
    first = Tokenizer.load(folder_of(family, tmp_path / "published"))
    first.save(tmp_path / "saved")
    second = Tokenizer.load(tmp_path / "saved")
    third = pickle.loads(pickle.dumps(second))
    assert first.fingerprint == second.fingerprint == third.fingerprint
    for other in (second, third):
        assert ids(first, NASTY) == ids(other, NASTY)
        assert (other.family, other.vocab_size, other.mask_id) == (first.family, first.vocab_size, first.mask_id)
    second.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_fingerprint_ignores_layout_and_sees_every_change_of_ids(tmp_path: Path) -> None:
    folder = roberta_folder(tmp_path / "published")
    first = Tokenizer.load(folder)
    first.save(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    old = json.loads(json.dumps(content))
    old["model"] = {"vocab": old["model"]["vocab"], "merges": [" ".join(pair) for pair in old["model"]["merges"]]}
    del old["pre_tokenizer"]["use_regex"]
    old["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_id": 1, "pad_type_id": 0}
    path.write_text(json.dumps(old, indent=2), "utf-8")
    assert Tokenizer.load(tmp_path / "saved").fingerprint == first.fingerprint
    changes = [
        lambda spec: spec["model"]["merges"].pop(),
        lambda spec: spec["model"]["vocab"].update(new=len(spec["model"]["vocab"])),
        lambda spec: spec["pre_tokenizer"].update(add_prefix_space=True),
        lambda spec: spec.update(normalizer={"type": "Lowercase"}),
        lambda spec: spec["added_tokens"][-1].update(lstrip=False),
    ]
    for change in changes:
        changed = json.loads(json.dumps(content))
        change(changed)
        path.write_text(json.dumps(changed), "utf-8")
        (tmp_path / "saved" / "tokenizer_config.json").unlink(missing_ok=True)
        assert Tokenizer.load(tmp_path / "saved").fingerprint != first.fingerprint


def test_padding_and_truncation_of_the_file_do_not_apply(tmp_path: Path) -> None:
    folder = xlmr_folder(tmp_path / "published")
    plain = ids(Tokenizer.load(folder), ENGLISH)
    padding = {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1}
    padding |= {"pad_type_id": 0, "pad_token": "<pad>"}
    truncation = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    edit(folder, padding=padding, truncation=truncation)
    assert ids(Tokenizer.load(folder), ENGLISH) == plain


def test_config_wins_over_the_file(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "published")
    text = ["Walking K\u00f6ln"]
    folded = Tokenizer.load(folder).encode_ids(text)[0].tolist()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "strip_accents": false}')
    cased = Tokenizer.load(folder)
    assert cased.encode_ids(text)[0].tolist() != folded
    cased.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["do_lower_case"] is False
    assert Tokenizer.load(tmp_path / "saved").encode_ids(text)[0].tolist() == cased.encode_ids(text)[0].tolist()


def test_vocab_txt_with_windows_line_ends(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "published")
    plain = Tokenizer.load(folder)
    path = folder / "vocab.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert Tokenizer.load(folder).fingerprint == plain.fingerprint


def test_a_vocabulary_without_mask_gets_one_at_its_end(tmp_path: Path) -> None:
    folder = roberta_folder(tmp_path / "published")
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    del vocab["<mask>"]
    (folder / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.mask_id == len(vocab) == tokenizer.vocab_size - 1


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("pre_tokenizer", {"type": "PythonScript"}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Exec"}]}),
        ("decoder", {"type": "CTC"}),
        ("model", {"type": "WordLevel", "vocab": {"a": 0}}),
        ("post_processor", "__import__('os')"),
    ],
)
def test_components_off_the_list_are_refused_by_name(part: str, value: object, tmp_path: Path) -> None:
    folder = edit(xlmr_folder(tmp_path / "published"), **{part: value})
    with pytest.raises(ArtefactError, match="unknown-component") as caught:
        Tokenizer.load(folder)
    assert str(caught.value.details["value"]) in str(value) or part == "post_processor"


def test_bpe_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    roberta = Tokenizer.load(roberta_folder(tmp_path / "published"))
    roberta.save(tmp_path / "saved")
    with pytest.raises(ArtefactError, match="not-byte-level"):
        Tokenizer.load(edit(tmp_path / "saved", pre_tokenizer={"type": "WhitespaceSplit"}))


def test_missing_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no-tokenizer"):
        Tokenizer.load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match=r"vocab\.txt"):
        Tokenizer.load(tmp_path / "empty")
    (tmp_path / "empty" / "sentencepiece.bpe.model").write_bytes(b"\x0a")
    with pytest.raises(ArtefactError, match="save_pretrained") as caught:
        Tokenizer.load(tmp_path / "empty")
    assert caught.value.code == "sentencepiece-only"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"model": {"type": "BPE"}}',
        b'{"added_tokens": [{}], "model": {"type": "WordPiece", "vocab": {}}}',
        b"[" * 100_000,
    ],
)
def test_corrupt_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_what_the_library_refuses_names_the_folder(tmp_path: Path) -> None:
    Tokenizer.load(roberta_folder(tmp_path / "published")).save(tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "tokenizer.json").read_text("utf-8"))
    model = {**content["model"], "merges": [["no such", "piece"]]}
    with pytest.raises(ArtefactError, match="out of vocabulary") as caught:
        Tokenizer.load(edit(tmp_path / "saved", model=model))
    assert caught.value.details["place"] == tmp_path / "saved"
    model = {**content["model"], "vocab": {**content["model"]["vocab"], "\ud800": 7}}
    with pytest.raises(ArtefactError, match="bad-tokenizer"):
        Tokenizer.load(edit(tmp_path / "saved", model=model))


def test_bad_merges_are_named_by_line(tmp_path: Path) -> None:
    folder = roberta_folder(tmp_path / "published")
    with (folder / "merges.txt").open("a") as file:
        file.write("a b c\n")
    with pytest.raises(ArtefactError, match=r"merges\.txt:\d+") as caught:
        Tokenizer.load(folder)
    assert caught.value.details["value"] == "a b c"
    (folder / "merges.txt").unlink()
    with pytest.raises(ArtefactError, match="missing-file"):
        Tokenizer.load(folder)


def test_missing_special_token(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "published")
    path = folder / "vocab.txt"
    path.write_text(path.read_text("utf-8").replace("[MASK]", "[mask]"), "utf-8")
    with pytest.raises(ArtefactError, match=r"no \[MASK\]"):
        Tokenizer.load(folder)
    (folder / "tokenizer_config.json").write_text('{"mask_token": {"content": "[mask]"}}')
    assert Tokenizer.load(folder).mask_token == "[mask]"
