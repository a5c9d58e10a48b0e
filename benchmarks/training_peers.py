"""What the benchmarks of training share: steps of transformers and of the product, measured in turns."""

import statistics
import time
from collections.abc import Callable

import torch
import transformers

from unmask.data.batching import Batch
from unmask.model.config import EncoderConfig
from unmask.runtime import Machine, machine
from unmask.tasks.base import Task
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings

DEVICE = "cpu"  # of the peers, so of the product too where there is a GPU
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


def peer_step(
    network: torch.nn.Module, losses: Callable[[], torch.Tensor], is_bf16: bool, device: str = "cpu"
) -> Callable[[], None]:
    """One optimizer step of transformers' module, which is on the device already."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    network.train()

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=is_bf16):
            loss = losses()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(
    task: Task, batches: Callable[[], list[Batch]], *, where: Machine | None = None, optimizer: str = "adamw"
) -> Callable[[], None]:
    """One optimizer step of the product's own loop."""
    settings = OptimSettings.model_validate({"lr": 1e-5, "optimizer": optimizer})
    trainer = Trainer(task, settings, max_steps=10**9, machine=where or machine(device=DEVICE), seed=0)

    steps = trainer.fit(iter(batches, None))

    def step() -> None:
        next(steps)

    return step


def measure(
    steps: Steps, units: int, rounds: int, *, warm_ups: int = 1, wait: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Units a second of each, median over interleaved rounds, after warming up; `wait` ends when a card is idle."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + warm_ups):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            wait()
            if turn >= warm_ups:
                taken[name].append(time.perf_counter() - start)
    return {name: units / statistics.median(seconds) for name, seconds in taken.items()}


def show(title: str, unit: str, speeds: dict[str, float]) -> None:
    """One row of the table."""
    base, best = speeds["transformers default"], speeds["transformers best"]
    cells = [f"{name} {speed:,.1f}" for name, speed in speeds.items()]
    ratios = f"{speeds['unmask'] / base:.2f}x default, {speeds['unmask'] / best:.2f}x best"
    print(f"{title:<28} {unit:<9} " + "  ".join(cells) + f"  => {ratios}", flush=True)


def any_tokenizer() -> Tokenizer:
    """A tokenizer for tasks whose batches hold made ids."""
    return train(["a small text for a tokenizer that is not used"], vocab_size=300)


def about_this_machine(where: Machine | None = None) -> str:
    """The first line of a table."""
    where = where or machine(device=DEVICE)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{where.name}, {where.threads} threads, {versions}"
