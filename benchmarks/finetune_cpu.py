"""Speed of fine-tuning on this CPU beside transformers, on the same ids, interleaved, as medians of passes.

    python benchmarks/finetune_cpu.py [--rounds N]

Peers: `default` is what transformers' Trainer does when nobody asks for more (float32, padded batches in file order,
attention dropout); `best` is the best setting of transformers' own module (bfloat16 autocast, batches sorted by length,
no attention dropout). Both use the fused AdamW. Texts of mixed length (log-normal, mean about 48 tokens, at most 256).
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
import transformers
from training_peers import (
    Steps,
    about_this_machine,
    any_tokenizer,
    measure,
    our_step,
    peer_step,
    published_config,
    show,
)

from unmask.data.batching import Batch, Features, pack
from unmask.model.config import EncoderConfig
from unmask.runtime import use_cpu
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tokenizer.load import Tokenizer


def finetuning(tokenizer: Tokenizer, texts: int, batch_size: int = 16) -> tuple[Steps, int]:
    """Passes over texts of mixed length (log-normal, mean about 48 tokens, at most 256) with a base-size network."""
    config = EncoderConfig(vocab_size=50265, attention_probs_dropout_prob=0.0)
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(3.6, 0.75, texts), 5, 256).astype(int)
    ids = [random.integers(5, 50000, length).astype(np.int32) for length in lengths]
    labels = random.integers(0, 2, texts)
    ours = Classification(config, tokenizer, ClassificationSettings(labels=("a", "b")))
    ours.init_weights(0)
    default = transformers.RobertaForSequenceClassification(published_config(config, attention_dropout=0.1))
    best = transformers.RobertaForSequenceClassification(published_config(config, attention_dropout=0.0))

    def padded(rows: np.ndarray) -> dict[str, torch.Tensor]:
        tensors = [torch.from_numpy(ids[row].astype(np.int64)) for row in rows]
        return {
            "input_ids": torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=1),
            "attention_mask": torch.nn.utils.rnn.pad_sequence(
                [torch.ones_like(one) for one in tensors], batch_first=True
            ),
            "labels": torch.from_numpy(labels[rows]),
        }

    def peer_pass(network: torch.nn.Module, order: np.ndarray, is_bf16: bool) -> Callable[[], None]:
        batches = [padded(order[at : at + batch_size]) for at in range(0, texts, batch_size)]
        current: dict[str, torch.Tensor] = {}
        step = peer_step(network, lambda: network(**current).loss, is_bf16)

        def once() -> None:
            for batch in batches:
                current.clear()
                current.update(batch)
                step()

        return once

    order = np.argsort(lengths, kind="stable")
    features = [Features(input_ids=one, label=int(label)) for one, label in zip(ids, labels, strict=True)]
    batches = [
        [pack([features[row] for row in order[at : at + batch_size]], position_offset=2)]
        for at in range(0, texts, batch_size)
    ]
    state = {"at": 0}

    def next_batch() -> list[Batch]:
        state["at"] = (state["at"] + 1) % len(batches)
        return batches[state["at"]]

    step = our_step(ours, next_batch)

    def our_pass() -> None:
        for _ in batches:
            step()

    steps = {
        "transformers default": peer_pass(default, np.arange(texts), is_bf16=False),
        "transformers best": peer_pass(best, order, is_bf16=True),
        "unmask": our_pass,
    }
    return steps, texts


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    use_cpu()
    print(about_this_machine())
    steps, texts = finetuning(any_tokenizer(), 64)
    show("12 x 768", "texts/s", measure(steps, texts, chosen.rounds))


if __name__ == "__main__":
    main()
