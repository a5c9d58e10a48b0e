"""The end of a run: the model folder with its certificate and its card."""

import json
import logging
import platform
import time
from collections.abc import Sequence
from typing import Any

from unmask.certify import PRECISIONS, Certificate, card_lines, certify
from unmask.checkpoint import save_model
from unmask.config import Settings
from unmask.data.rows import Table
from unmask.engine.choice import runs
from unmask.golden import make_golden, with_precisions
from unmask.runtime import machine
from unmask.tasks.base import Task
from unmask.train.run import Run, clock

log = logging.getLogger("unmask")

CERTIFIED_ROWS = 100  # fewer do not show half a point
_SCORED_ON = {
    "corpus": "On the held-out part of the corpus:",
    "dev": "On the dev rows, which also chose the epoch:",
    "fitted": "On the dev rows, which also chose the epoch; the {names} that answers each fifth of them was fitted on "
    "the other four fifths:",
    "folds": "Means over the folds of a cross-validation; this model itself has learned from all rows:",
}


# What the field calls these tasks in a card's head.
_PIPELINES = {
    "classification": "text-classification",
    "embedding": "sentence-similarity",
    "masked_lm": "fill-mask",
    "regression": "text-classification",
    "seq2seq": "text2text-generation",
    "span_qa": "question-answering",
    "tagging": "token-classification",
}


def certify_model(task: Task, dev: Table) -> list[Certificate]:
    """Measure on the dev rows which lower precisions of the compiled kernels lose too little to matter; say it aloud.

    Where they do not run here, or there are too few rows, nothing is measured.

    Args:
        task: on the CPU, with the weights to keep.
        dev: labelled rows.

    Returns:
        One certificate for each precision that was measured, passed or not.
    """
    there = [one for one in PRECISIONS if runs("native", one, task.config)]
    if not there or len(dev.rows) < CERTIFIED_ROWS:
        return []
    start = time.perf_counter()
    found = certify(task, dev, there, engine="native", has_search=False)
    log.info("precisions measured on the dev rows in %.1f s:", time.perf_counter() - start)
    for one in found:
        log.info("%s%s", one, "" if one.is_passed else "; not certified")
    return found


def write_model(
    run: Run, task: Task, settings: Settings, data: dict[str, str], *, certificates: Sequence[Certificate] = ()
) -> None:
    """Write `RUN/model`, whole or not at all.

    Args:
        run: the finished run.
        task: with the weights to keep.
        settings: of the run, for the card.
        data: names and fingerprints of what the model was trained on.
        certificates: of lower precisions; those that have passed are kept.
    """
    task = task.cpu().eval()
    passed = {one.precision: one for one in certificates if one.is_passed}
    engine = {"engine": {name: one.to_json() for name, one in passed.items()}} if passed else {}
    lower = {name: one.golden for name, one in passed.items()}
    save_model(
        run.model,
        config=task.config,
        state_dict=task.state_dict(),
        tokenizer=task.tokenizer,
        head=task.head_name,
        labels=task.labels,
        meta={
            "task": {"name": task.name, "settings": task.settings.model_dump(mode="json")},
            "data": data,
            **engine,
        },
        card=_card(run, task, settings, data, list(passed.values())),
        golden=with_precisions(make_golden(task), lower) if lower else make_golden(task),
        problem_type=task.problem_type,
    )


def _card(run: Run, task: Task, settings: Settings, data: dict[str, str], certificates: Sequence[Certificate]) -> str:
    steps = run.events("step")
    final = run.events("final")[-1]
    scores = {name: value for name, value in final["scores"].items() if isinstance(value, int | float)}
    shape = task.config
    lines = [
        "---",
        "library_name: unmask",
        f"pipeline_tag: {_PIPELINES.get(task.name, task.name)}",
        "tags: [roberta, unmask]",
        "---",
        "",
        f"# {run.folder.resolve().name}",
        "",
        f"A RoBERTa for {task.name.replace('_', ' ')}: {shape.num_hidden_layers} layers, width {shape.hidden_size}, "
        f"{sum(parameter.numel() for parameter in task.parameters()):,} parameters, "
        f"inputs of up to {shape.max_length} tokens.",
        "",
        "## Use",
        "",
        "```python",
        "from unmask import Predictor",
        "",
        'predictor = Predictor.load("this folder")',
        f"print(predictor([{_example(task)}]))",
        "```",
        "",
        "`transformers.AutoModel.from_pretrained` opens the same folder.",
        "",
        "## Results",
        "",
        scored_on(final),
        "",
        *(f"* {name}: {value:.4f}" for name, value in scores.items()),
        "",
        "## Training",
        "",
        *(f"* {name}: {value}" for name, value in data.items()),
        f"* optimizer steps: {final['step']}" + (f", kept: {final['best_step']}" if "best_step" in final else ""),
        f"* logged time of steps: {clock(_logged_seconds(steps))} on {machine().name} ({platform.machine()})",
        f"* tokens a second, median of the log: {_median([event['tokens_per_second'] for event in steps]):,.0f}",
        "",
        "All settings:",
        "",
        "```json",
        json.dumps(settings.model_dump(mode="json"), indent=1),
        "```",
        "",
        *card_lines(certificates),
        "## Limits",
        "",
        "The scores hold for text like the evaluated rows. No test of bias or of other domains was made.",
        "",
    ]
    return "\n".join(lines)


def scored_on(final: dict[str, Any]) -> str:
    """What the scores of a run were measured on, in words.

    Args:
        final: the run's event of this name.
    """
    if names := final.get("fitted"):
        return _SCORED_ON["fitted"].format(names=" and ".join(name.replace("_", " ") for name in names))
    return _SCORED_ON[final.get("scored_on", "corpus")]


def _example(task: Task) -> str:
    if task.name == "masked_lm":
        return json.dumps(f"The first {task.tokenizer.mask_token} of the day.")
    asked = task.example("a text")
    if not all(isinstance(asked[name], str) for name in task.text_columns):
        return json.dumps(asked)
    return "(" + ", ".join('"a text"' for _ in task.text_columns) + ")" if len(task.text_columns) > 1 else '"a text"'


def _logged_seconds(steps: list[dict[str, Any]]) -> float:
    """Steps are logged every few, each with the time of one: scale by the distance between them."""
    numbers = [0] + [event["step"] for event in steps]
    return sum(event["seconds"] * (event["step"] - before) for event, before in zip(steps, numbers, strict=False))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
