"""What single settings of pre-training give: short runs from one model, scored on the same held-out text and on BLiMP.

    python benchmarks/pretrain_ablations.py OUTPUT CORPUS... --model unmask-small-en --steps 500 [--probes BLIMP]

Every run has the recipe `mini` at the rate of --lr, and the same blocks, order and number of steps, but for what its
row names. All are scored alike: held-out blocks of all corpora, 15 % of their tokens masked one by one. The same
command again goes on where it ended.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from bundled import grammar, held_out

from unmask.bundled import ENGLISH, find_model
from unmask.config import load_recipe, resolve
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings

# The first row is the recipe; every other one changes one thing, the optimizer together with its rate.
ABLATIONS: dict[str, dict[str, Any]] = {
    "recipe mini": {},
    "mask rate 0.15": {"masking": {"mask_prob": 0.15, "mask_prob_end": None}},
    "mask rate 0.3": {"masking": {"mask_prob_end": None}},
    "whole words": {"masking": {"unit": "word"}},
    "spans": {"masking": {"unit": "span"}},
    "running mean, 0.99": {"optim": {"ema_decay": 0.99}},
    "no replaced or kept words": {"masking": {"random_token_prob": 0.0, "keep_prob": 0.0}},
    "each corpus as often": {"corpus_weights": "all"},
    "documents apart": {"isolate_documents": True},
    "AdamW, 6e-4": {"optim": {"optimizer": "adamw", "lr": 6e-4}},
    "half the batch": {"global_batch_size": 16, "micro_batch_size": 16},
}


def main() -> None:
    """Print one row a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("--model", default=ENGLISH)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", help="parts of the rows' names, with commas between")
    parser.add_argument("--probes", type=Path, help="folder of BLiMP")
    parser.add_argument("--limit", type=int, help="pairs of each paradigm")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    start, words = find_model(chosen.model), chosen.only.split(",") if chosen.only else [""]
    fixed = {
        "seed": chosen.seed,
        "max_steps": chosen.steps,
        "eval_every": chosen.steps,
        "optim": {"lr": chosen.lr},
        "machine": {"threads": chosen.threads},
    }
    print("| | held out, nats | BLiMP |\n|---|---|---|")
    for number, (name, change) in enumerate({"start": None, **ABLATIONS}.items()):
        if number and not any(word in name for word in words):
            continue
        folder = start
        if change is not None:
            weights = {"corpus_weights": (1.0,) * len(chosen.corpora)} if "corpus_weights" in change else {}
            settings = resolve(PretrainSettings, load_recipe("mini", "pretrain"), fixed, change | weights)
            output = chosen.output / re.sub(r"\W+", "-", name)
            folder = pretrain(chosen.corpora, output, settings, model=start).model
        score = "" if chosen.probes is None else f"{grammar(folder, chosen.probes, chosen.limit):.3f}"
        print(f"| {name} | {held_out(folder, chosen.corpora, 128).nats_per_token:.4f} | {score} |", flush=True)


if __name__ == "__main__":
    main()
