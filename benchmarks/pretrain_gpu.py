"""Speed of pre-training on a GPU beside transformers, on the same card and ids, interleaved, as medians of steps.

    python benchmarks/pretrain_gpu.py [--sizes base,small] [--lengths 128,512] [--tokens 65536] [--rounds N]
    python benchmarks/pretrain_gpu.py --device cpu --sizes mini --lengths 32 --tokens 256 --rounds 1    # a rehearsal

The peer is the best setting of transformers' own module: autocast to the same number format, SDPA, head on masked
tokens only, fused AdamW also where the product takes Muon; its ids lie on the card already. The product's batches come
from the host in every step, as in training. Both run eagerly. 15 % of the tokens are masked, 50,265 ids. MFU is the
share of what a large product of the same format was measured to do on this card; operations are counted as in
`unmask.train.flops`.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator

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
)

from unmask.data.batching import Batch, positions_of
from unmask.model.config import EncoderConfig
from unmask.runtime import Machine, machine
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.train.flops import peak_flops, pretraining_flops

SIZES = {"mini": (4, 256), "small": (6, 384), "base": (12, 768)}
MASKED = 0.15


def shape_of(size: str, dropout: float) -> EncoderConfig:
    """A network of a size, with the same dropout of states and of attention probabilities."""
    layers, width = SIZES[size]
    return EncoderConfig(
        vocab_size=50265, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip


def batch_of(tokens: int, length: int) -> Batch:
    """Full blocks with masked places; ids are random, which changes no operation."""
    random, blocks = np.random.default_rng(0), max(1, tokens // length)
    ids = torch.from_numpy(random.integers(5, 50000, blocks * length))
    places = random.permuted(np.tile(np.arange(length), (blocks, 1)), axis=1)[:, : max(1, round(MASKED * length))]
    positions = torch.from_numpy(np.sort(places, axis=1) + np.arange(blocks)[:, None] * length).flatten()
    cu_seqlens = np.arange(0, blocks * length + 1, length, dtype=np.int32)
    return Batch(
        input_ids=ids,
        position_ids=positions_of(cu_seqlens, 2),
        cu_seqlens=cu_seqlens,
        labels=ids[positions],
        positions=positions,
    )


def peer_of(config: EncoderConfig, batch: Batch, length: int, where: Machine) -> Callable[[], None]:
    """Steps of transformers."""
    published = published_config(config, attention_dropout=config.attention_probs_dropout_prob)
    published.hidden_dropout_prob = config.hidden_dropout_prob
    network = transformers.RobertaForMaskedLM(published).to(where.device)
    there = batch.to(where.device)
    assert there.labels is not None
    ids, positions, labels = there.input_ids.view(-1, length), there.positions, there.labels

    def loss() -> torch.Tensor:
        hidden = network.roberta(input_ids=ids).last_hidden_state.flatten(0, 1)[positions]
        return torch.nn.functional.cross_entropy(network.lm_head(hidden).float(), labels)

    return peer_step(network, loss, where.dtype != torch.float32, where.device.type)


def run_case(
    size: str, length: int, dropout: float, optimizer: str, chosen: argparse.Namespace
) -> tuple[dict[str, float], float]:
    """Tokens a second of each, and operations a token."""
    where = machine("auto", chosen.device)
    config, batch = shape_of(size, dropout), batch_of(chosen.tokens, length)
    ours = MaskedLM(config, any_tokenizer(), MaskedLMSettings())
    ours.init_weights(0)
    steps: Steps = {
        "unmask": our_step(ours, lambda: [batch], where=where, optimizer=optimizer),
        "transformers": peer_of(config, batch, length, where),
    }
    wait = torch.cuda.synchronize if where.device.type == "cuda" else lambda: None
    speeds = measure(steps, batch.num_tokens, chosen.rounds, warm_ups=chosen.warm_ups, wait=wait)
    share = batch.num_targets / batch.num_tokens
    return speeds, pretraining_flops(config, length=length, mask_prob=share)


def cases(chosen: argparse.Namespace) -> Iterator[tuple[str, int, float, str]]:
    """Everything with AdamW and no dropout, and the variants of each size at its first length."""
    for size, length in itertools.product(chosen.sizes.split(","), map(int, chosen.lengths.split(","))):
        yield size, length, 0.0, "adamw"
        if length == int(chosen.lengths.split(",")[0]):
            yield size, length, 0.1, "adamw"
            yield size, length, 0.0, "muon"


def main() -> None:
    """Measure, and print one table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", default="base,small,mini")
    parser.add_argument("--lengths", default="128,512")
    parser.add_argument("--tokens", type=int, default=65536, help="of a step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-ups", type=int, default=3)
    chosen = parser.parse_args()
    where = machine("auto", chosen.device)
    peak = peak_flops(where)
    lines = [
        f"{about_this_machine(where)}, {str(where.dtype).removeprefix('torch.')}, {peak / 1e12:,.1f} TFLOP/s measured",
        f"{'size':<6} {'length':>6} {'dropout':>7} {'optimizer':<9} {'unmask tokens/s':>15} {'MFU':>6} "
        f"{'transformers':>12} {'ratio':>6}",
    ]
    for case in cases(chosen):
        print("measuring", *case, flush=True)
        speeds, flops = run_case(*case, chosen)
        ours, peer = speeds["unmask"], speeds["transformers"]
        size, length, dropout, optimizer = case
        lines.append(
            f"{size:<6} {length:>6} {dropout:>7} {optimizer:<9} {ours:>15,.0f} {ours * flops / peak:>6.1%} "
            f"{peer:>12,.0f} {ours / peer:>5.2f}x"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
