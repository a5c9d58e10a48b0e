"""Small tokenizer folders of the three families, in the layouts in which they are published."""

import functools
import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train

ENGLISH = (
    "The harbour was quiet that morning, and the old sailor didn't hurry.",
    "She'd bought 12 apples, 7 pears and a loaf of bread for the children's lunch.",
    "In 1969 two men walked on the Moon; the whole world watched them walking.",
    "Nothing was said, but everything that mattered had been understood by the others.",
)
CHINESE = (
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u3002",
    "\u4ed6\u5728\u516c\u56ed\u91cc\u770b\u89c1\u4e86\u5f88\u591a\u4eba\u3002",
)
SCRIPTS = (
    "Gr\u00fc\u00dfe aus K\u00f6ln: na\u00efve caf\u00e9s, 3\u20ac!",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea e\u0301\u0302\u0303",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
)
TEXTS = (*ENGLISH * 3, *CHINESE * 3, *SCRIPTS)
NASTY = (
    "",
    " ",
    "   ",
    "\n",
    "a  b   c\n\n\td ",
    " leading and trailing ",
    "\u00a0no-break\u3000wide\u2028line\u0085next",
    "\ufeffbyte order mark",
    "\x00\x01\x1b control",
    "cafe\u0301 caf\u00e9 \ufb01 \u2460",
    "\u4eca\u5929walking 3.14\u5929",
    "\U0001f469\u200d\U0001f680\U0001f1e9\U0001f1ea",
    "\u202eright to left\u202c",
    "\U00020000\U0010ffff",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 5,
    "<s>literal</s> <pad><unk> <mask> [CLS] [SEP][MASK] [PAD] [UNK]",
    "\uff1cs\uff1e \uff1c/s\uff1e",
    "I'm he'll they've DON'T",
    "##ing \u2581under \u0120G",
)
FAMILIES = ("roberta", "xlm-roberta", "bert")


def roberta_folder(folder: Path) -> Path:
    """`vocab.json`, `merges.txt` and no tokenizer.json: RoBERTa as first published."""
    model = json.loads(_trained_bpe())["model"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def bert_folder(folder: Path) -> Path:
    """`vocab.txt` alone: BERT and the Chinese RoBERTa in BERT form."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(_trained_wordpiece()) + "\n", "utf-8")
    return folder


def xlmr_folder(folder: Path) -> Path:
    """`tokenizer.json` with a Unigram model whose vocabulary holds the special strings as pieces."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(_trained_unigram(), "utf-8")
    return folder


def folder_of(family: str, folder: Path) -> Path:
    """A folder of one family in its published layout."""
    return {"roberta": roberta_folder, "xlm-roberta": xlmr_folder, "bert": bert_folder}[family](folder)


@functools.cache
def small(isolate_han: bool = True) -> Tokenizer:
    """A byte-level BPE tokenizer of 400 ids trained on TEXTS."""
    return train(TEXTS, vocab_size=400, isolate_han=isolate_han)


@functools.cache
def _trained_bpe() -> str:
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=449,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(TEXTS, trainer)
    engine.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    content = json.loads(engine.to_str())
    content["model"]["vocab"]["<mask>"] = len(content["model"]["vocab"])
    return json.dumps(content)


@functools.cache
def _trained_wordpiece() -> tuple[str, ...]:
    engine = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=names, show_progress=False)
    engine.train_from_iterator([*TEXTS, "[ ] < >"], trainer)
    vocab = engine.get_vocab()
    return tuple(sorted(vocab, key=lambda token: vocab[token]))


@functools.cache
def _trained_unigram() -> str:
    engine = tokenizers.Tokenizer(models.Unigram())
    engine.normalizer = normalizers.NFKC()
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=names, unk_token="<unk>", show_progress=False)
    engine.train_from_iterator([*TEXTS, "< > / s >"], trainer)
    content = json.loads(engine.to_str())
    pieces = [*content["model"]["vocab"], ["<mask>", 0.0]]
    engine = tokenizers.Tokenizer(models.Unigram([tuple(piece) for piece in pieces], unk_id=3))
    engine.normalizer = normalizers.NFKC()
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    engine.decoder = decoders.Metaspace()
    engine.add_special_tokens([*names, AddedToken("<mask>", lstrip=True)])
    engine.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    text: str = engine.to_str()
    return text
