"""Ids, offsets, pairs and masks equal those of transformers, from folders in either library's layout."""

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from tests.unit.tokenizer.samples import (
    CHINESE,
    ENGLISH,
    FAMILIES,
    NASTY,
    SCRIPTS,
    bert_folder,
    folder_of,
    roberta_folder,
    small,
    xlmr_folder,
)
from unmask.tokenizer.load import Sequence, Tokenizer
from unmask.tokenizer.train import train

MASKED = ("She likes <mask>.", "She likes<mask>.", "<mask>", "a  <mask> <mask>\n<mask>b", "\u5929<mask> \u6c14")
FRAGMENTS = [*"ab e.,\n\t'", "  ", "the ", "harbour", "'s", "12", "\u5929", "\u0301", "\u00e9", "\U0001f469", "\u3000"]
# hypothesis finds constants such as "<s>" in the source, which mean something to the reference and nothing to us
PLAIN = st.text(max_size=3).filter(lambda text: not {"<", "["} & set(text))
TEXT = st.lists(st.sampled_from(FRAGMENTS) | PLAIN, max_size=15).map("".join)
CASES = [*FAMILIES, "trained"]
Pair = tuple[Tokenizer, transformers.PreTrainedTokenizerFast]


def published(family: str, folder: Path) -> transformers.PreTrainedTokenizerFast:
    """transformers' own class of a family, built from a vocabulary."""
    mask = AddedToken("<mask>", lstrip=True, special=True)
    if family == "roberta":
        source = roberta_folder(folder)
        vocab = json.loads((source / "vocab.json").read_text("utf-8"))
        lines = (source / "merges.txt").read_text("utf-8").splitlines()[1:]
        merges = [tuple(line.split(" ")) for line in lines]
        return transformers.RobertaTokenizer(vocab=vocab, merges=merges, mask_token=mask)
    if family == "xlm-roberta":
        spec = json.loads((xlmr_folder(folder) / "tokenizer.json").read_text("utf-8"))
        vocab = [tuple(piece) for piece in spec["model"]["vocab"]]
        return transformers.XLMRobertaTokenizer(vocab=vocab, mask_token=mask)
    lines = (bert_folder(folder) / "vocab.txt").read_text("utf-8").splitlines()
    return transformers.BertTokenizer(vocab={token: id for id, token in enumerate(lines)})


@pytest.fixture(scope="module")
def theirs_first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Folders that transformers wrote, opened by us."""
    base = tmp_path_factory.mktemp("theirs")
    pairs = {}
    for family in FAMILIES:
        reference = published(family, base / f"{family}-source")
        reference.save_pretrained(base / family)
        pairs[family] = (Tokenizer.load(base / family), reference)
    return pairs


@pytest.fixture(scope="module")
def ours_first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Folders that we wrote, opened by AutoTokenizer."""
    base = tmp_path_factory.mktemp("ours")
    made = {family: Tokenizer.load(folder_of(family, base / f"{family}-source")) for family in FAMILIES}
    made["trained"] = small()
    for name, tokenizer in made.items():
        tokenizer.save(base / name)
    return {name: (made[name], transformers.AutoTokenizer.from_pretrained(base / name)) for name in made}


def assert_equal(sequence: Sequence, reference: transformers.BatchEncoding) -> None:
    assert sequence.input_ids.tolist() == reference["input_ids"]
    if "token_type_ids" in reference:
        assert sequence.token_type_ids.tolist() == reference["token_type_ids"]
    owners = [-1 if owner is None else owner for owner in reference.sequence_ids()]
    assert sequence.sequence_ids.tolist() == owners


def compare(pair: Pair, first: str, second: str | None, max_length: int) -> None:
    tokenizer, reference = pair
    texts = [text for text in (first, second) if text is not None]
    sequence = tokenizer.assemble(*tokenizer.encode(texts), max_length=max_length)
    expected = reference(*texts, truncation="longest_first", max_length=max_length, return_offsets_mapping=True)
    assert_equal(sequence, expected)
    assert [tuple(offset) for offset in sequence.offsets.tolist()] == expected["offset_mapping"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [*ENGLISH, *CHINESE, *SCRIPTS, *(text for text in NASTY if "<s>" not in text)])
def test_published_folders_give_equal_ids_and_offsets(family: str, text: str, theirs_first: dict[str, Pair]) -> None:
    compare(theirs_first[family], text, None, 512)
    compare(theirs_first[family], text, ENGLISH[0], 512)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=200)
@given(text=TEXT, other=TEXT.filter(bool), max_length=st.integers(4, 40))
def test_published_folders_on_random_text(
    family: str, text: str, other: str, max_length: int, theirs_first: dict[str, Pair]
) -> None:
    compare(theirs_first[family], text, None, max_length)
    compare(theirs_first[family], text, other, max_length)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=200)
@given(text=TEXT, other=TEXT.filter(bool), max_length=st.integers(4, 40))
def test_our_folders_in_auto_tokenizer(
    name: str, text: str, other: str, max_length: int, ours_first: dict[str, Pair]
) -> None:
    compare(ours_first[name], text, None, max_length)
    compare(ours_first[name], text, other, max_length)


@pytest.mark.parametrize("name", CASES)
@given(parts=st.lists(st.sampled_from(["<mask>", " ", "  ", "\n", "a", "the", ".", "\u5929"]), max_size=10))
def test_masks(name: str, parts: list[str], ours_first: dict[str, Pair]) -> None:
    tokenizer, reference = ours_first[name]
    text = "".join(parts).replace("<mask>", tokenizer.mask_token)
    sequence = tokenizer.assemble(tokenizer.encode_masked(text), max_length=512)
    assert_equal(sequence, reference(text))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", MASKED)
def test_masks_in_published_folders(family: str, text: str, theirs_first: dict[str, Pair]) -> None:
    tokenizer, reference = theirs_first[family]
    text = text.replace("<mask>", tokenizer.mask_token)
    pieces = tokenizer.encode_masked(text)
    assert_equal(tokenizer.assemble(pieces, max_length=512), reference(text))
    assert_equal(
        tokenizer.assemble(pieces, pieces, max_length=20), reference(text, text, truncation=True, max_length=20)
    )
    assert tokenizer.mask_id in pieces.ids


@pytest.mark.parametrize("name", CASES)
def test_auto_tokenizer_knows_the_special_tokens(name: str, ours_first: dict[str, Pair]) -> None:
    tokenizer, reference = ours_first[name]
    ids = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id, tokenizer.mask_id)
    named = (reference.cls_token_id, reference.sep_token_id, reference.pad_token_id, reference.unk_token_id)
    assert ids == (*named, reference.mask_token_id)
    assert set(reference.all_special_ids) == set(tokenizer.special_ids.tolist())
    assert len(reference) == tokenizer.vocab_size
    assert reference.model_max_length == 512
    assert ("token_type_ids" in reference("a")) == (tokenizer.family == "bert")


@pytest.mark.parametrize("name", CASES)
def test_auto_tokenizer_in_a_model_folder(name: str, ours_first: dict[str, Pair], tmp_path: Path) -> None:
    """Beside a config.json the class comes from another place; the ids must be the same."""
    tokenizer, _ = ours_first[name]
    tokenizer.save(tmp_path)
    model_type = "roberta" if name == "trained" else tokenizer.family
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*ENGLISH, *CHINESE, *SCRIPTS):
        compare((tokenizer, reference), text, ENGLISH[1], 60)


@pytest.mark.parametrize("isolate_han", [True, False])
def test_decode_and_reload_by_transformers(isolate_han: bool, tmp_path: Path) -> None:
    tokenizer = train([*ENGLISH, *CHINESE] * 3, vocab_size=380, isolate_han=isolate_han)
    tokenizer.save(tmp_path / "ours")
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in (*ENGLISH, *SCRIPTS):
        ids = reference(text)["input_ids"]
        assert reference.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text
    reference.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.load(tmp_path / "theirs")
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.mask_id, again.family) == (tokenizer.mask_id, "roberta")


def test_plain_trained_tokenizer_in_roberta_tokenizer(tmp_path: Path) -> None:
    """Without the isolation of Han characters the folder is RoBERTa's own form, for its own class too."""
    tokenizer = small(isolate_han=False)
    tokenizer.save(tmp_path)
    reference = transformers.RobertaTokenizer.from_pretrained(tmp_path)
    for text in (*ENGLISH, *CHINESE, *SCRIPTS):
        compare((tokenizer, reference), text, ENGLISH[1], 60)
