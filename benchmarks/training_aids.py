"""What each aid of fine-tuning gives on real sets, beside plain fine-tuning with the same seeds.

    python benchmarks/task_sets.py SOURCE SETS --rows 1000 --dev-rows 500
    python benchmarks/training_aids.py SETS OUTPUT [--model unmask-small-en] [--seeds 0,1,2] [--only trec,cola]

Prints median and range over the seeds, and the seconds of all runs beside those of plain fine-tuning. The same command
again goes on where it ended; then its seconds mean nothing.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from bundled import told

from unmask.bundled import ENGLISH, find_model
from unmask.study.suites import load_suite, run_suite

PLAIN = "plain"
# R-Drop compares two passes that differ by their dropout, so it has that of the row above it.
AIDS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "label smoothing 0.1": {"options": {"label_smoothing": 0.1}},
    "layer-wise rates, 0.9 a layer": {"optim": {"layer_lr_decay": 0.9}},
    "embeddings and 2 layers frozen": {"freeze_layers": 2},
    "head alone": {"freeze_encoder": True},
    "LoRA, rank 8": {"lora": {"rank": 8}},
    "balanced sampling": {"balanced_sampling": True},
    "FGM, 1": {"regularize": {"fgm_epsilon": 1.0}},
    "dropout 0.1": {"hidden_dropout": 0.1},
    "dropout 0.1, R-Drop 1": {"hidden_dropout": 0.1, "regularize": {"r_drop": 1.0}},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default=ENGLISH)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="trec,mrpc,cola", help="sets, with commas between")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    suite = load_suite(str(Path(__file__).with_name("tasks.toml")))
    names, seeds = chosen.only.split(","), [int(one) for one in chosen.seeds.split(",")]
    fixed: dict[str, Any] = {"certify": False, "machine": {"threads": chosen.threads}}
    print("| | " + " | ".join(names) + " | time |")
    print("|---|" + "---|" * (len(names) + 1))
    plain_seconds = 0.0
    for number, (aid, settings) in enumerate(AIDS.items()):
        output = chosen.output / f"{number}"
        found = run_suite(
            suite, chosen.sets, output, model=find_model(chosen.model), seeds=seeds, only=names, given=(fixed, settings)
        )
        outcomes = {one.name: one for one in found}
        seconds = sum(one.seconds for one in found) if all(one.scores for one in found) else 0.0
        plain_seconds = plain_seconds or seconds
        cells = [told(outcomes[name]) for name in names]
        cells.append(f"{seconds / plain_seconds:.2f}" if seconds else "")
        print(f"| {aid} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
