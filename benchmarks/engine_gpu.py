"""Answers a second of the engine on a GPU beside transformers on the same one, interleaved, as medians of rounds.

    python benchmarks/engine_gpu.py [--models roberta-base] [--workloads mixture,latency-12] [--rounds N]
    python benchmarks/engine_gpu.py --device cpu --models 4x256 --scale 1 --rounds 1    # a rehearsal

Encoder and classification head, from ready token ids to logits on the host. The product gets all texts in one call and
cuts batches itself; in `unmask bfloat16` the products are in bfloat16, as a certificate is measured. transformers runs
its default attention (SDPA) with all weights in the format, on batches of texts sorted by length and padded. Workloads
of `latency` ask for one text at a time. MFU counts the real tokens' operations, as `unmask.train.flops` does, over
those of a large product in that format; `off` is the greatest difference of a logit from transformers' in float32.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from engines.models import SHAPES, network_of, save_tokenizer
from engines.workloads import WORKLOADS, padded, texts_of

from unmask.data.batching import Features, sorted_batches
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.train.flops import peak_flops, pretraining_flops

PRECISIONS = ("float32", "bfloat16")
Answer = Callable[[list[np.ndarray]], np.ndarray]


def ours(folder: Path, precision: str, device: str) -> tuple[Answer, EncoderConfig]:
    """What `Predictor.run` does behind the tokenizer."""
    predictor = Predictor.load(folder, engine="torch", precision=precision, device=device)
    task, where = predictor.task, machine("float32", device)

    @torch.inference_mode()
    def answer(ids: list[np.ndarray]) -> np.ndarray:
        features = [Features(input_ids=one, row=row) for row, one in enumerate(ids)]
        found: list[np.ndarray] = [np.empty(0)] * len(ids)
        for chosen in sorted_batches(np.array([len(one) for one in ids]), max_tokens=predictor.max_tokens):
            together = [features[index] for index in chosen]
            batch = task.collate(together).to(where.device)
            for index, part in zip(chosen, task.answer(batch, together), strict=True):
                found[index] = part
        return np.stack(found)

    return answer, task.config


def peer(name: str, precision: str, device: str, batch_size: int) -> Answer:
    """transformers' own module."""
    network = network_of(name).to(machine("float32", device).device, getattr(torch, precision))

    @torch.inference_mode()
    def answer(ids: list[np.ndarray]) -> np.ndarray:
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        found = np.empty((len(ids), network.config.num_labels), np.float32)
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            tokens, mask = (torch.from_numpy(one).to(network.device) for one in padded([ids[row] for row in rows]))
            found[rows] = network(input_ids=tokens, attention_mask=mask).logits.float().cpu().numpy()
        return found

    return answer


def seconds_of(answer: Answer, texts: list[np.ndarray], *, is_latency: bool) -> tuple[float, np.ndarray]:
    """Seconds of all texts, or the median of one, and the logits (N, C)."""
    taken, logits = [], []
    for some in [[one] for one in texts] if is_latency else [texts]:
        start = time.perf_counter()
        logits.append(answer(some))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), np.concatenate(logits)


def forward_flops(config: EncoderConfig, texts: list[np.ndarray]) -> float:
    """Operations of one pass: a third of training's; the head reads one token of each text and has no vocabulary."""
    shape = config.model_copy(update={"vocab_size": 0})
    return sum(pretraining_flops(shape, length=len(one), mask_prob=1 / len(one)) * len(one) for one in texts) / 3


def run_workload(name: str, engines: dict[str, Answer], config: EncoderConfig, chosen: argparse.Namespace) -> list[str]:
    """The lines of a workload, one an engine."""
    workload = WORKLOADS[name]
    count = workload.count if workload.is_latency else workload.count * chosen.scale
    texts = texts_of(replace(workload, count=count), config.vocab_size)
    taken: dict[str, list[float]] = {one: [] for one in engines}
    logits: dict[str, np.ndarray] = {}
    for turn in range(chosen.rounds + 1):
        for one, answer in engines.items():
            seconds, logits[one] = seconds_of(answer, texts, is_latency=workload.is_latency)
            taken[one] += [seconds] if turn else []
    medians = {one: statistics.median(found) for one, found in taken.items()}
    per_call = 1 if workload.is_latency else len(texts)
    tokens, flops = (sum(len(one) for one in texts) / len(texts), forward_flops(config, texts) / len(texts))
    lines = []
    for one, seconds in medians.items():
        precision = one.split()[1]
        peak = peak_flops(machine(precision, chosen.device))
        off = np.abs(logits[one] - logits["transformers float32"]).max()
        lines.append(
            f"{name:<12} {one:<22} {per_call / seconds:>10,.0f} {per_call * tokens / seconds:>12,.0f} "
            f"{1000 * seconds / per_call:>9.3f} {per_call * flops / seconds / peak:>6.1%} {off:>8.4f} "
            f"{medians[f'transformers {precision}'] / seconds:>6.2f}x"
        )
    return lines


def main() -> None:
    """Measure, and print one table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", default="roberta-base,4x256", help=", ".join(SHAPES))
    parser.add_argument("--workloads", default="mixture,short,128,512,latency-12,latency-48,latency-128")
    parser.add_argument("--scale", type=int, default=16, help="times as many texts as on a CPU, one by one apart")
    parser.add_argument("--batch-size", type=int, default=128, help="of transformers")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    transformers.logging.disable_progress_bar()
    lines = [
        f"{machine('auto', chosen.device).name}, torch {torch.__version__}, transformers {transformers.__version__}"
    ]
    head = (
        f"{'workload':<12} {'engine':<22} {'texts/s':>10} {'tokens/s':>12} {'ms a text':>9} {'MFU':>6} {'off':>8} "
        f"{'ratio':>7}"
    )
    for name in chosen.models.split(","):
        with tempfile.TemporaryDirectory() as place:
            network = network_of(name)
            network.save_pretrained(place)
            save_tokenizer(Path(place), network.config.vocab_size)
            engines = {}
            for precision in PRECISIONS:
                engines[f"unmask {precision}"], config = ours(Path(place), precision, chosen.device)
                engines[f"transformers {precision}"] = peer(name, precision, chosen.device, chosen.batch_size)
        lines += ["", name, head]
        for workload in chosen.workloads.split(","):
            print("measuring", name, workload, flush=True)
            lines += run_workload(workload, engines, config, chosen)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
