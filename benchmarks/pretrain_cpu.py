"""Speed of pre-training on this CPU beside transformers, on the same ids, interleaved, as medians of steps.

    python benchmarks/pretrain_cpu.py [--rounds N]

Peers: `default` is what transformers' Trainer does when nobody asks for more (float32, logits for every token,
attention dropout); `best` is the best setting of transformers' own module (bfloat16 autocast, head on masked tokens
only, no attention dropout). Both use the fused AdamW. Blocks of 128 tokens, 15 % masked, 50,265 ids.
"""

import argparse

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

from unmask.data.batching import Batch, positions_of
from unmask.model.config import EncoderConfig
from unmask.runtime import use_cpu
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.tokenizer.load import Tokenizer

BLOCK = 128
SIZES = ((4, 256, 32), (6, 384, 32), (12, 768, 16))


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


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    use_cpu()
    print(about_this_machine())
    tokenizer = any_tokenizer()
    for layers, width, blocks in SIZES:
        steps, tokens = pretraining(tokenizer, layers, width, blocks)
        show(f"{layers} x {width}", "tokens/s", measure(steps, tokens, chosen.rounds))


if __name__ == "__main__":
    main()
