"""What a lower precision costs: scores of fine-tuned models by engine and precision, and logits beside transformers.

    unmask suite benchmarks/tasks.toml SETS --model M --output RUNS
    python benchmarks/engine_accuracy.py SETS RUNS [RUNS ...] [--engine native]

For each set of the suite the model of the first seed answers its dev part in float32, bfloat16 and int8. Share is the
score over that of float32; same is the share of rows with the same answer,
fractions aside (of a regression that says nothing). The logits of a classifier are compared with
those of transformers, in float32, on up to 1,000 texts.
"""

import argparse
import re
import statistics
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from unmask.data.recognise import read_rows
from unmask.evaluate import evaluate
from unmask.predict import Predictor

PRECISIONS = ("float32", "bfloat16", "int8")
FRACTION = re.compile(r"-?\d+\.\d+(e-?\d+)?")


def scores(model: Path, dev: Path, engine: str) -> dict[str, Any]:
    """Main score of each precision, and the answers."""
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        predictor = Predictor.load(model, engine=engine, precision=precision)
        task = predictor.task
        table = read_rows(dev, task.columns, task.form, tags=getattr(task.settings, "label_column", None))
        result = evaluate(predictor, table)
        found[precision] = result.main_score, [answer.summary() for answer in result.predictions]
    return found


def same(left: list[str], right: list[str]) -> float:
    """Share of equal answers, their probabilities and other fractions aside."""
    pairs = [[FRACTION.sub("", answer) for answer in answers] for answers in (left, right)]
    return float(np.mean([one == other for one, other in zip(*pairs, strict=True)]))


@torch.inference_mode()
def logits_beside_transformers(model: Path, dev: Path, engine: str, most: int = 1000) -> dict[str, tuple[float, float]]:
    """Greatest difference of a logit, and the cosine, to transformers' float32 logits."""
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    wanted: list[np.ndarray] = []
    found = {}
    for precision in PRECISIONS:
        predictor = Predictor.load(model, engine=engine, precision=precision)
        rows = read_rows(dev, predictor.task.columns).rows[:most]
        said = predictor.run(rows)
        if not wanted:
            for _, features in said:
                ids = torch.from_numpy(features[0].input_ids.astype(np.int64))[None]
                wanted.append(theirs(input_ids=ids).logits[0].numpy())
        ours = np.stack([parts[0] for parts, _ in said])
        right = np.stack(wanted)
        cosine = (ours * right).sum() / np.linalg.norm(ours) / np.linalg.norm(right)
        found[precision] = float(np.abs(ours - right).max()), float(cosine)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--engine", default="native")
    parser.add_argument("--suite", type=Path, default=Path(__file__).with_name("tasks.toml"))
    chosen = parser.parse_args()
    tasks = tomllib.loads(chosen.suite.read_text("utf-8"))["tasks"]
    print(f"{'set':<14}" + "".join(f"{name:>10}" for name in PRECISIONS) + "   share bf16, int8    same bf16, int8")
    shares: dict[str, list[float]] = {name: [] for name in PRECISIONS[1:]}
    for name, task in tasks.items():
        models = [run / name / "seed-0" / "model" for run in chosen.runs if (run / name / "seed-0" / "model").is_dir()]
        if not models:
            continue
        found = scores(models[0], chosen.sets / task["dev"], chosen.engine)
        exact, answers = found["float32"]
        line = f"{name:<14}" + "".join(f"{found[one][0]:>10.4f}" for one in PRECISIONS) + "   "
        for one in PRECISIONS[1:]:
            shares[one].append(found[one][0] / exact if exact > 0 else float("nan"))
        line += "".join(f"{shares[one][-1]:>9.4f}" for one in PRECISIONS[1:]) + "  "
        print(line + "".join(f"{same(found[one][1], answers):>9.4f}" for one in PRECISIONS[1:]), flush=True)
        if task.get("task") == "classification" and name in ("sst2", "trec"):
            for one, (difference, cosine) in logits_beside_transformers(
                models[0], chosen.sets / task["dev"], chosen.engine
            ).items():
                print(f"  beside transformers, {one}: greatest difference {difference:.2e}, cosine {cosine:.6f}")
    for one, values in shares.items():
        kept = [value for value in values if np.isfinite(value)]
        print(f"{one}: mean share {statistics.mean(kept):.4f}, smallest {min(kept):.4f}, {len(kept)} sets")


if __name__ == "__main__":
    main()
