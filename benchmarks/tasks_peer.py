"""The same fine-tuning by transformers' own Trainer, from the same model folder, on sets of benchmarks/task_sets.py.

    python benchmarks/tasks_peer.py SETS MODEL [--seeds 0,1,2] [--only sst2] [--epochs 10] [--batch-size 16]
        [--lr 3e-4] [--threads 2]

The best epoch on the dev part is kept, as `unmask finetune` does. Needs transformers, accelerate and seqeval.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from seqeval.metrics import f1_score

Item = dict[str, Any]
Set = tuple[list[Item], list[Item]]


def labelled(folder: Path, name: str, tokenizer: Any) -> tuple[Set, list[str]]:
    """Texts or pairs with a class."""
    parts = [
        [json.loads(line) for line in (folder / f"{name}.{part}.jsonl").read_text("utf-8").splitlines()]
        for part in ("train", "dev")
    ]
    labels = sorted({row["label"] for row in parts[0]})
    columns = ("text",) if "text" in parts[0][0] else ("sentence1", "sentence2")
    sets = [
        [
            {**tokenizer(*(row[column] for column in columns), truncation=True), "labels": labels.index(row["label"])}
            for row in rows
        ]
        for rows in parts
    ]
    return (sets[0], sets[1]), labels


def tagged(folder: Path, name: str, tokenizer: Any) -> tuple[Set, list[str]]:
    """Words with tags of the scheme IOB1, turned into BIO; the first piece of a word carries its tag.

    Sentences are encoded as text: with `is_split_into_words` the pieces would lack the space before each word, for
    AutoTokenizer's `add_prefix_space` does nothing where the byte level is one of several steps.
    """
    parts = [[_bio(block) for block in _blocks(folder / f"{name}.{part}.conll")] for part in ("train", "dev")]
    labels = sorted({tag for rows in parts for _, tags in rows for tag in tags})

    def item(words: Sequence[str], tags: Sequence[str]) -> Item:
        found = tokenizer(" ".join(words), truncation=True, return_offsets_mapping=True)
        begins = itertools.accumulate((len(word) + 1 for word in words), initial=0)
        tag_at = dict(zip(begins, map(labels.index, tags), strict=False))
        ids = [tag_at.pop(start, -100) if end > start else -100 for start, end in found.pop("offset_mapping")]
        return {**found, "labels": ids}

    sets = [[item(words, tags) for words, tags in rows] for rows in parts]
    return (sets[0], sets[1]), labels


def _blocks(path: Path) -> list[list[list[str]]]:
    blocks = [[line.split() for line in block.split("\n")] for block in path.read_text("utf-8").strip().split("\n\n")]
    return [block for block in blocks if block[0][0] != "-DOCSTART-"]


def _bio(block: list[list[str]]) -> tuple[list[str], list[str]]:
    tags = [row[-1] for row in block]
    before = ["O", *tags[:-1]]
    begins = [tag[0] == "I" and tag[2:] != last[2:] for tag, last in zip(tags, before, strict=True)]
    fixed = ["B" + tag[1:] if is_begin else tag for tag, is_begin in zip(tags, begins, strict=True)]
    return [row[0] for row in block], fixed


def accuracy(found: Any) -> dict[str, float]:
    """Share of right classes."""
    return {"score": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def entity_f1(labels: list[str]) -> Callable[[Any], dict[str, float]]:
    """F1 of entities, by seqeval."""

    def score(found: Any) -> dict[str, float]:
        rows = zip(found.label_ids, found.predictions.argmax(-1), strict=True)
        pairs = [([labels[i] for i in gold[gold >= 0]], [labels[i] for i in given[gold >= 0]]) for gold, given in rows]
        return {"score": float(f1_score([gold for gold, _ in pairs], [given for _, given in pairs]))}

    return score


def run(name: str, folder: Path, model: str, seed: int, chosen: argparse.Namespace) -> tuple[float, float]:
    """Best dev score and seconds of one run."""
    is_tagged = name == "conll2003"
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    sets, labels = (tagged if is_tagged else labelled)(folder, name, tokenizer)
    kind = (
        transformers.AutoModelForTokenClassification if is_tagged else transformers.AutoModelForSequenceClassification
    )
    transformers.set_seed(seed)
    network = kind.from_pretrained(model, num_labels=len(labels))
    collator = transformers.DataCollatorForTokenClassification if is_tagged else transformers.DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as output:
        settings = transformers.TrainingArguments(
            output, seed=seed, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no",
            learning_rate=chosen.lr, per_device_train_batch_size=chosen.batch_size, num_train_epochs=chosen.epochs,
            per_device_eval_batch_size=32, weight_decay=0.1, warmup_steps=0.06, adam_beta2=0.98, adam_epsilon=1e-6,
            eval_strategy="epoch", save_strategy="no",
        )  # fmt: skip
        trainer = transformers.Trainer(
            network,
            settings,
            data_collator=collator(tokenizer),
            train_dataset=sets[0],
            eval_dataset=sets[1],
            compute_metrics=entity_f1(labels) if is_tagged else accuracy,
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return max(event["eval_score"] for event in trainer.state.log_history if "eval_score" in event), seconds


def main() -> None:
    """Print one row a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("model")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="sst2,mrpc,trec,conll2003")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(chosen.threads)
    for name in chosen.only.split(","):
        done = [run(name, chosen.sets, chosen.model, int(seed), chosen) for seed in chosen.seeds.split(",")]
        scores = [score for score, _ in done]
        print(
            f"{name:<12} median {statistics.median(scores):.4f}  range {min(scores):.4f} to {max(scores):.4f}  "
            f"{np.median([seconds for _, seconds in done]):.0f} s a run",
            flush=True,
        )


if __name__ == "__main__":
    main()
