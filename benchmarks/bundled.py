"""What the bundled encoders are worth beside random weights: fine-tuning, grammar, held-out text.

    python benchmarks/task_sets.py SOURCE SETS --rows 1000 --dev-rows 500
    python benchmarks/bundled.py SETS OUTPUT [--model unmask-small-en] [--seeds 0,1,2,3,4] [--probes BLIMP --limit 100]
        [--corpus CORPUS]... [--lr 3e-4] [--threads 2]

Prints the table of the model's card: median and range over the seeds, and published scores of small encoders where
there are any. A published score is of the official test set after training on all rows; SETS may hold fewer, and other
dev parts, so that it shows the distance and is no contest. Both columns have the same learning rate, and all seeds of
the second one the same random encoder: its range is that of heads and orders. Where a run collapses another seed takes
its place, and the row says how many did. The same command again goes on where it ended. The English card is of five
seeds and --limit 100 (two hours of one core), the Chinese one of `--model unmask-mini-zh --seeds 0,1,2` (three).
"""

import argparse
from pathlib import Path

import torch

from unmask.bundled import CHINESE, ENGLISH, find_model
from unmask.checkpoint import load_model, save_model
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.storage import weights_digest
from unmask.study.held_out import HeldOut, score_held_out
from unmask.study.pairs import read_pairs, score_pairs
from unmask.study.suites import Outcome, load_suite, run_suite
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM

SETS = {
    ENGLISH: ("sst2", "mrpc", "stsb", "rte", "cola", "conll2003", "squad1"),
    CHINESE: ("peopledaily", "weibo", "cluener", "ocnli", "ewect", "chnsenticorp", "book_review", "cmrc"),
}
# GLUE's test server, in hundredths, in the metrics of benchmarks/tasks.toml (Turc et al. 2019, page of the models).
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    ENGLISH: {
        "BERT-mini, 11 M": {"sst2": 85.9, "mrpc": 71.8, "stsb": 73.3, "rte": 57.9, "cola": 0.0},
        "BERT-small, 29 M": {"sst2": 89.7, "mrpc": 76.2, "stsb": 77.0, "rte": 61.8, "cola": 27.8},
    },
    CHINESE: {},
}


def random_twin(folder: Path, output: Path) -> Path:
    """The same network and tokenizer with random weights, in a folder that is named by what it is a twin of."""
    output = output / f"random-{weights_digest(folder)}"
    if not output.exists():
        model = load_model(folder)
        task = MaskedLM(model.config, model.tokenizer, MaskedLMSettings())
        task.init_weights(0)
        save_model(
            output, config=model.config, state_dict=task.state_dict(), tokenizer=model.tokenizer, head="masked_lm",
            labels=None, meta={}, card="Random weights.\n", golden=None,
        )  # fmt: skip
    return output


def grammar(folder: Path, probes: Path, limit: int | None) -> float:
    """Share of minimal pairs whose right sentence is the likelier one, by pseudo-log-likelihood."""
    pairs = read_pairs(probes, limit=limit)
    return score_pairs(masked_lm(folder), pairs, machine=machine("float32"), within_word="l2r").mean.accuracy


def held_out(folder: Path, corpora: list[Path], length: int | None = None) -> HeldOut:
    """Scores of what pre-training never read of the corpora, in blocks of a length or as long as the model takes."""
    task = masked_lm(folder)
    lengths = [length or task.config.max_length]
    (found,) = score_held_out(task, corpora, lengths, blocks=512, machine=machine("float32"))
    return found


def masked_lm(folder: Path) -> MaskedLM:
    """The model, in torch."""
    task = Predictor.load(folder, task="masked_lm", engine="torch", precision="float32").task
    assert isinstance(task, MaskedLM)
    return task


def told(one: Outcome) -> str:
    """Median and range in hundredths, and how many runs collapsed (none is in these, if another seed did not)."""
    if one.median is None:
        return one.missing or "not run"
    low, high = min(one.scores), max(one.scores)
    collapsed = f", {one.num_collapsed} collapsed" if one.num_collapsed else ""
    return f"{100 * one.median:.1f} ({100 * low:.1f} to {100 * high:.1f}){collapsed}"


def parsed() -> argparse.Namespace:
    """The command line."""
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
    parser.add_argument("--corpus", type=Path, action="append", help="corpus of the model's tokenizer, held-out part")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    chosen = parsed()
    names = chosen.only.split(",") if chosen.only else SETS.get(chosen.model)
    if names is None:
        raise SystemExit(f"{chosen.model} is no bundled model: name the sets with --only")
    torch.set_num_threads(chosen.threads)
    folder = find_model(chosen.model)
    twin = random_twin(folder, chosen.output.resolve())
    published = PUBLISHED.get(chosen.model, {})
    suite = load_suite(str(Path(__file__).with_name("tasks.toml")))
    seeds = [int(one) for one in chosen.seeds.split(",")]
    given = ({"optim": {"lr": chosen.lr}, "certify": False, "machine": {"threads": chosen.threads}},)
    columns = [
        {one.name: one for one in run_suite(
            suite, chosen.sets, chosen.output / kind, model=start, seeds=seeds, only=names, given=given
        )}
        for kind, start in (("pretrained", folder), ("from-random", twin))
    ]  # fmt: skip
    print(f"| set | metric | {chosen.model} | random weights |" + "".join(f" {name} |" for name in published))
    print("|---|---|---|---|" + "---|" * len(published))
    for name in names:
        cells = [told(column[name]) for column in columns] + [str(row.get(name, "")) for row in published.values()]
        print(f"| {name} | {columns[0][name].metric} | {' | '.join(cells)} |")
    if chosen.probes is not None:
        mine, others = (100 * grammar(one, chosen.probes, chosen.limit) for one in (folder, twin))
        print(f"| BLiMP | share of pairs | {mine:.1f} | {others:.1f} |" + " |" * len(published))
    if chosen.corpus is not None:
        scores = [held_out(one, chosen.corpus) for one in (folder, twin)]
        for name in ("nats_per_token", "bits_per_byte"):
            mine, others = (getattr(one, name) for one in scores)
            print(f"| held-out text | {name} | {mine:.3f} | {others:.3f} |" + " |" * len(published))


if __name__ == "__main__":
    main()
