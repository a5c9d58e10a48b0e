"""The model card: README.md of a model folder, written from its run."""

import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from unmask.certify import Certificate, card_lines
from unmask.config import Settings
from unmask.tasks.base import Task
from unmask.train.run import Run, clock
from unmask.train.settings import CardSettings

_SCORED_ON = {
    "corpus": "On the held-out part of the corpus:",
    "dev": "On the dev rows, which also chose the epoch:",
    "fitted": "On the dev rows, which also chose the epoch; the {names} that answers each fifth of them was fitted on "
    "the other four fifths:",
    "folds": "Means over the folds of a cross-validation; this model itself has learned from all rows:",
}
_CURVE_ROWS = 12
LEFT_OUT = "the recipe's card tells of other text, and is left out: name, language, licence, training text"
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


def is_about(sources: Sequence[str], digests: Iterable[str]) -> bool:
    """Whether a card tells of just these files of text, by their digests; one that names none is about any."""
    return not sources or sorted(sources) == sorted(digests)


def card(run: Run, task: Task, settings: Settings, data: dict[str, str], certificates: Sequence[Certificate]) -> str:
    """Text of the model card.

    Args:
        run: the finished run.
        task: with the weights that are kept.
        settings: of the run, which may say more for the card.
        data: names and fingerprints of what the model was trained on.
        certificates: of lower precisions that have passed.
    """
    more = getattr(settings, "card", CardSettings())
    lines = [
        *_front(task, more),
        f"# {more.name or run.folder.resolve().name}",
        "",
        f"A RoBERTa for {task.name.replace('_', ' ')}: {task.config.num_hidden_layers} layers, width "
        f"{task.config.hidden_size}, {sum(one.numel() for one in task.parameters()):,} parameters, "
        f"inputs of up to {task.config.max_length} tokens.",
        "",
        "## Use",
        "",
        "```python",
        "from unmask import Predictor",
        "",
        'predictor = Predictor.load("this folder")',
        f"print(predictor([{json.dumps(more.example, ensure_ascii=False) if more.example else _example(task)}]))",
        "```",
        "",
        "`transformers.AutoModel.from_pretrained` opens the same folder."
        + " The head, on the mean of all states, is left aside there." * task.pools_mean,
        "",
        *_results(run),
        *(line for heading, text in more.sections.items() for line in (f"## {heading}", "", text.strip(), "")),
        *_training(run, settings, data),
        *card_lines(certificates),
        "## Limits",
        "",
        "The scores hold for text like the evaluated rows. No test of bias or of other domains was made.",
        "",
    ]
    return "\n".join(lines)


def _front(task: Task, more: CardSettings) -> Iterator[str]:
    """What the field reads from a card's head."""
    yield "---"
    yield from (
        f"{name}: {json.dumps(value, ensure_ascii=False)}"
        for name in ("language", "license")
        if (value := getattr(more, name)) is not None
    )
    yield "library_name: unmask"
    yield f"pipeline_tag: {_PIPELINES.get(task.name, task.name)}"
    yield "tags: [roberta, unmask]"
    yield "---"
    yield ""


def _results(run: Run) -> Iterator[str]:
    final = run.events("final")[-1]
    yield from ("## Results", "", scored_on(final), "")
    yield from (f"* {name}: {value:.4f}" for name, value in final["scores"].items() if isinstance(value, int | float))
    yield ""
    curve = [event for event in run.events("evaluation") if "bits_per_byte" in event]
    if curve:
        yield from ("| step | nats per masked token | bits per byte |", "|---|---|---|")
        chosen = curve[:: math.ceil(len(curve) / _CURVE_ROWS)]
        for event in chosen if chosen[-1] is curve[-1] else [*chosen, curve[-1]]:
            yield f"| {event['step']:,} | {event['loss']:.3f} | {event['bits_per_byte']:.3f} |"
        yield ""


def _training(run: Run, settings: Settings, data: dict[str, str]) -> Iterator[str]:
    steps, final = run.events("step"), run.events("final")[-1]
    yield from ("## Training", "")
    yield from (f"* {name}: {value}" for name, value in data.items())
    yield f"* optimizer steps: {final['step']}" + (f", kept: {final['best_step']}" if "best_step" in final else "")
    yield f"* tokens read, by the logged steps: {_scaled(steps, 'num_tokens'):,.0f}"
    where = f" on {run.machine_name} ({platform.machine()})" if run.machine_name else ""
    yield f"* time of steps, likewise: {clock(_scaled(steps, 'seconds'))}{where}"
    yield f"* tokens a second, median of the log: {_median([event['tokens_per_second'] for event in steps]):,.0f}"
    yield from ("", "All settings:", "", "```json", json.dumps(_shown(settings), indent=1), "```", "")


def _shown(settings: Settings) -> dict[str, Any]:
    """The settings, without what the card says by itself."""
    return settings.model_dump(mode="json", exclude={"card"})


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


def _scaled(steps: list[dict[str, Any]], name: str) -> float:
    """Sum over all steps of what is logged for one in every few: each stands for those since the one before."""
    numbers = [0] + [event["step"] for event in steps]
    return sum(event[name] * (event["step"] - before) for event, before in zip(steps, numbers, strict=False))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
