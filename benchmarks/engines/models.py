"""Models with random weights, and the answers that transformers in float32 gives to each text alone.

    python -m engines.models NAME FOLDER

The weights are drawn wide enough for every text to get logits of its own, so that a wrong answer shows.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from unmask.tokenizer.train import train

from .workloads import WORKLOADS, texts_of

# name -> layers, width, heads, size of the vocabulary
SHAPES = {
    "roberta-base": (12, 768, 12, 50265),
    "6x768": (6, 768, 12, 50265),
    "6x384": (6, 384, 6, 16384),
    "4x256": (4, 256, 4, 16384),
}
CLASSES = 3


def network_of(name: str) -> transformers.RobertaForSequenceClassification:
    """A network of a shape, the same at each call."""
    layers, width, heads, vocab_size = SHAPES[name]
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=width**-0.5,
        num_labels=CLASSES,
        # as in published folders; the converter of ctranslate2 asks for it, the config has lost it
        position_embedding_type="absolute",
    )
    return transformers.RobertaForSequenceClassification(config).eval()


def save_tokenizer(folder: Path, vocab_size: int) -> None:
    """A tokenizer with as many pieces as the model: no text is tokenised here, but some converters count them."""
    train(["a small text for a tokenizer that is not used"], vocab_size=300).save(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    vocab = content["model"]["vocab"]
    start = max(*vocab.values(), *(token["id"] for token in content["added_tokens"])) + 1
    vocab.update({f"filler{number}": number for number in range(start, vocab_size)})
    path.write_text(json.dumps(content), "utf-8")


@torch.inference_mode()
def expected(network: transformers.RobertaForSequenceClassification, name: str) -> np.ndarray:
    """Logits (N, C) of a workload's texts, each alone and so without padding."""
    texts = texts_of(WORKLOADS[name], network.config.vocab_size)
    return np.concatenate([network(torch.from_numpy(text[None].astype(np.int64))).logits.numpy() for text in texts])


def note_of(name: str) -> str:
    """What the content of a model's folder follows from."""
    ids = {key: zlib.crc32(np.concatenate(texts_of(one, SHAPES[name][-1])).tobytes()) for key, one in WORKLOADS.items()}
    return json.dumps([SHAPES[name], CLASSES, ids, torch.__version__, transformers.__version__])


def main() -> None:
    """Write a model folder `model` and `expected.npz`, unless they are there."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    note = folder / "note.json"
    if note.is_file() and note.read_text("utf-8") == note_of(name):
        return
    transformers.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    network = network_of(name)
    network.save_pretrained(folder / "model")
    save_tokenizer(folder / "model", network.config.vocab_size)
    logits: dict[str, Any] = {one: expected(network, one) for one in WORKLOADS}
    np.savez(folder / "expected.npz", **logits)
    note.write_text(note_of(name), "utf-8")


if __name__ == "__main__":
    main()
