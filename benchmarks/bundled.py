"""What the bundled encoders are worth: grammar, and fine-tuning beside the same network from random weights.

    python benchmarks/task_sets.py SOURCE SETS --rows 1000 --dev-rows 500
    python benchmarks/bundled.py SETS OUTPUT [--model unmask-small-en] [--seeds 0,1,2,3,4] [--probes BLIMP] [--lr 3e-4]
        [--threads 2]

Prints a table for the model card: median and range over the seeds, and published scores of small encoders where there
are any. A published score is of the official test set after training on all rows; SETS may hold fewer, and other dev
parts, so that it shows the distance and is no contest. Both columns have the same learning rate. The same command again
goes on where it ended. The table of unmask-small-en's card is of the sets as they are made above, and of five seeds;
SQuAD, which takes the longest, has three there: `--only squad1 --seeds 0,1,2`.
"""

import argparse
from pathlib import Path

import torch

from unmask.bundled import CHINESE, ENGLISH, find_model
from unmask.checkpoint import load_model, save_model
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.study.pairs import PairScores, read_pairs, score_pairs
from unmask.study.suites import Outcome, load_suite, run_suite
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM

SETS = {
    ENGLISH: ("sst2", "mrpc", "stsb", "rte", "cola", "conll2003", "squad1"),
    CHINESE: ("chnsenticorp", "ewect", "ocnli", "peopledaily", "cmrc"),
}
# GLUE's test server, in hundredths, in the metrics of benchmarks/tasks.toml (Turc et al. 2019, page of the models).
PUBLISHED = {
    "BERT-mini, 11 M": {"sst2": 85.9, "mrpc": 71.8, "stsb": 73.3, "rte": 57.9, "cola": 0.0},
    "BERT-small, 29 M": {"sst2": 89.7, "mrpc": 76.2, "stsb": 77.0, "rte": 61.8, "cola": 27.8},
}


def random_twin(folder: Path, output: Path) -> Path:
    """The same network and tokenizer with random weights."""
    if not output.exists():
        model = load_model(folder)
        task = MaskedLM(model.config, model.tokenizer, MaskedLMSettings())
        task.init_weights(0)
        save_model(
            output, config=model.config, state_dict=task.state_dict(), tokenizer=model.tokenizer, head="masked_lm",
            labels=None, meta={}, card="Random weights.\n", golden=None,
        )  # fmt: skip
    return output


def grammar(folder: Path, probes: Path, limit: int | None) -> PairScores:
    """Which sentence of each minimal pair is likelier, by pseudo-log-likelihood."""
    task = Predictor.load(folder, task="masked_lm", engine="torch").task
    return score_pairs(task, read_pairs(probes, limit=limit), machine=machine("float32"), within_word="l2r")


def told(one: Outcome) -> str:
    """Median and range in hundredths."""
    if one.median is None:
        return one.missing or "not run"
    low, high = min(one.scores), max(one.scores)
    return f"{100 * one.median:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default=ENGLISH)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--only", help="sets, with commas between")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--probes", type=Path, help="folder of BLiMP")
    parser.add_argument("--limit", type=int, help="pairs of each paradigm")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    folder = find_model(chosen.model)
    twin = random_twin(folder, chosen.output.resolve() / "random-weights")
    names = chosen.only.split(",") if chosen.only else SETS.get(chosen.model, SETS[ENGLISH])
    suite, seeds = (
        load_suite(str(Path(__file__).with_name("tasks.toml"))),
        [int(one) for one in chosen.seeds.split(",")],
    )
    given = ({"optim": {"lr": chosen.lr}, "certify": False, "machine": {"threads": chosen.threads}},)
    columns = [
        {one.name: one for one in run_suite(
            suite, chosen.sets, chosen.output / kind, model=start, seeds=seeds, only=names, given=given
        )}
        for kind, start in (("pretrained", folder), ("from-random", twin))
    ]  # fmt: skip
    print(f"| set | metric | {chosen.model} | random weights | " + " | ".join(PUBLISHED) + " |")
    print("|---|---|---|---|" + "---|" * len(PUBLISHED))
    for name in names:
        cells = [told(column[name]) for column in columns] + [str(row.get(name, "")) for row in PUBLISHED.values()]
        print(f"| {name} | {columns[0][name].metric} | " + " | ".join(cells) + " |")
    if chosen.probes is not None:
        mine, others = (grammar(one, chosen.probes, chosen.limit) for one in (folder, twin))
        print(f"| BLiMP | share of pairs | {100 * mine.mean.accuracy:.1f} | {100 * others.mean.accuracy:.1f} | | |")


if __name__ == "__main__":
    main()
