"""Training speed on this CPU beside transformers, on the same ids, interleaved, as medians of steps.

    python benchmarks/train_cpu.py [--rounds N] [--only pretrain|finetune]

Peers: `default` is what transformers' Trainer does when nobody asks for more (float32, padded batches in file order,
logits for every token, attention dropout); `best` is the best setting of transformers' own module (bfloat16 autocast,
head on masked tokens only, batches sorted by length, no attention dropout). Both use the fused AdamW.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers

from unmask.data.batching import Batch, Features, pack, positions_of
from unmask.model.config import EncoderConfig
from unmask.runtime import machine, use_cpu
from unmask.tasks.base import Task
from unmask.tasks.classification import Classification, ClassificationSettings
from unmask.tasks.masked_lm import MaskedLM, MaskedLMSettings
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings

BLOCK = 128
Steps = dict[str, Callable[[], None]]


def published_config(config: EncoderConfig, *, attention_dropout: float, **more: object) -> transformers.RobertaConfig:
    """The same shape for transformers."""
    return transformers.RobertaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        attention_probs_dropout_prob=attention_dropout,
        **more,
    )


def peer_step(network: torch.nn.Module, losses: Callable[[], torch.Tensor], is_bf16: bool) -> Callable[[], None]:
    """One optimizer step of transformers' module."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    network.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = losses()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(task: Task, batches: Callable[[], list[Batch]]) -> Callable[[], None]:
    """One optimizer step of the product's own loop."""
    trainer = Trainer(task, OptimSettings(lr=1e-5), max_steps=10**9, machine=machine(), seed=0)

    def stream():
        while True:
            yield batches()

    steps = trainer.fit(stream())
    return lambda: next(steps) and None


def pretraining(tokenizer: Tokenizer, layers: int, width: int, blocks: int) -> tuple[Steps, int]:
    """Steps over blocks of 128 tokens with 15 % masked; ids are random, which changes no operation."""
    config = EncoderConfig(
        vocab_size=50265, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    random = np.random.default_rng(0)
    ids = random.integers(5, 50000, (blocks, BLOCK))
    masked = np.sort(random.permuted(np.tile(np.arange(1, BLOCK - 1), (blocks, 1)), axis=1)[:, :19], axis=1)
    positions = torch.from_numpy((masked + np.arange(blocks)[:, None] * BLOCK).ravel())
    input_ids = torch.from_numpy(ids)
    labels = torch.full((blocks * BLOCK,), -100)
    labels[positions] = input_ids.flatten()[positions]
    cu_seqlens = np.arange(0, blocks * BLOCK + 1, BLOCK, dtype=np.int32)
    batch = Batch(
        input_ids=input_ids.flatten(),
        position_ids=positions_of(cu_seqlens, 2),
        cu_seqlens=cu_seqlens,
        labels=labels[positions],
        positions=positions,
    )
    ours = MaskedLM(config, tokenizer, MaskedLMSettings())
    ours.init_weights(0)
    default = transformers.RobertaForMaskedLM(published_config(config, attention_dropout=0.1))
    best = transformers.RobertaForMaskedLM(published_config(config, attention_dropout=0.0))

    def best_loss() -> torch.Tensor:
        hidden = best.roberta(input_ids=input_ids).last_hidden_state.flatten(0, 1)[positions]
        return torch.nn.functional.cross_entropy(best.lm_head(hidden).float(), labels[positions])

    steps = {
        "transformers default": peer_step(
            default, lambda: default(input_ids=input_ids, labels=labels.view(blocks, BLOCK)).loss, is_bf16=False
        ),
        "transformers best": peer_step(best, best_loss, is_bf16=True),
        "unmask": our_step(ours, lambda: [batch]),
    }
    return steps, blocks * BLOCK


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


def measure(steps: Steps, units: int, rounds: int) -> dict[str, float]:
    """Units a second of each, median over interleaved rounds, after one warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: units / statistics.median(seconds) for name, seconds in taken.items()}


def show(title: str, unit: str, speeds: dict[str, float]) -> None:
    """One row of the table."""
    base, best = speeds["transformers default"], speeds["transformers best"]
    cells = [f"{name} {speed:,.1f}" for name, speed in speeds.items()]
    ratios = f"{speeds['unmask'] / base:.2f}x default, {speeds['unmask'] / best:.2f}x best"
    print(f"{title:<28} {unit:<9} " + "  ".join(cells) + f"  => {ratios}", flush=True)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("pretrain", "finetune"))
    chosen = parser.parse_args()
    use_cpu()
    where = machine()
    print(f"{where.name}, {where.threads} threads, torch {torch.__version__}, transformers {transformers.__version__}")
    tokenizer = train(["a small text for a tokenizer that is not used"], vocab_size=300)
    if chosen.only != "finetune":
        for layers, width, blocks in ((4, 256, 32), (6, 384, 32), (12, 768, 16)):
            steps, tokens = pretraining(tokenizer, layers, width, blocks)
            show(f"pre-training {layers} x {width}", "tokens/s", measure(steps, tokens, chosen.rounds))
    if chosen.only != "pretrain":
        steps, texts = finetuning(tokenizer, 64)
        show("fine-tuning 12 x 768", "texts/s", measure(steps, texts, max(2, chosen.rounds // 2)))


if __name__ == "__main__":
    main()
