"""Small texts, a small tokenizer and small corpora for the tests of the data room."""

import random
from pathlib import Path

import numpy as np
import tokenizers

from unmask.data.corpus import Corpus, build

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_WORDS = (
    "the a river mountain house of in with without walks runs sees green old small quickly never always morning "
    "evening 12 3.14 Dr. Anna London water bread letter answer question window garden unbelievable Straße 天气 很好"
)
WORDS = _WORDS.split()


def sentence(rng: random.Random, *, longest: int = 14) -> str:
    """A sentence of random words."""
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, longest))]
    return " ".join(words).capitalize() + rng.choice(".!?.")


def document(rng: random.Random) -> str:
    """One to four paragraphs of one to six sentences."""
    lines = [" ".join(sentence(rng) for _ in range(rng.randint(1, 6))) for _ in range(rng.randint(1, 4))]
    return "\n".join(lines)


def write_text(path: Path, *, num_documents: int, seed: int = 0) -> Path:
    """A plain text file with blank lines between documents."""
    rng = random.Random(seed)
    path.write_text("\n\n".join(document(rng) for _ in range(num_documents)) + "\n", "utf-8")
    return path


def write_tokenizer(folder: Path, *, vocab_size: int = 400) -> Path:
    """A byte-level BPE of the test words, trained with the tokenizers library."""
    rng = random.Random(1)
    trained = tokenizers.ByteLevelBPETokenizer()
    lines = [document(rng) for _ in range(50)]
    trained.train_from_iterator(lines, vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
    folder.mkdir(parents=True)
    trained.save(str(folder / "tokenizer.json"))
    return folder


def small_corpus(folder: Path, *, num_documents: int = 60, shard_tokens: int = 2000) -> Corpus:
    """A corpus of a few shards."""
    text = write_text(folder / "text.txt", num_documents=num_documents)
    tokenizer = write_tokenizer(folder / "tokenizer")
    build([text], tokenizer_folder=tokenizer, output=folder / "corpus", processes=1, shard_tokens=shard_tokens)
    return Corpus.open(folder / "corpus")


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder with their bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def equal_arrays(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether shape, type and values agree."""
    return left.dtype == right.dtype and np.array_equal(left, right)
