"""The mean of several models' weights: seeds or checkpoints of one training as one model of the same size."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask import storage
from unmask.checkpoint import Model, load_model
from unmask.errors import UsageError
from unmask.train.rewrite import rewrite


def average_models(models: Sequence[Path], output: Path, *, weights: Sequence[float] = ()) -> None:
    """Write the weighted mean of the weights of model folders (Wortsman et al. 2022; fairseq's average_checkpoints).

    It answers like a mean of the models where they come from one start, as seeds of a fine-tuning and checkpoints of a
    run do; of models that were trained apart from their random weights on, the mean is worth nothing. Settings that
    were fitted on dev rows, such as a temperature, are those of the first model.

    Args:
        models: two folders or more, of one shape, tokenizer, task and labels.
        output: the new folder; it must not exist.
        weights: share of each model, of any sum; by default the same for all.

    Raises:
        UsageError: there are fewer than two models, not as many weights as models, or the models do not fit each other.
        ArtefactError: a folder is no model, or a corrupt one.
    """
    if output.exists():
        raise UsageError("exists", "the output folder exists already", place=output, remedy="choose another name")
    shares = list(weights) or [1.0] * len(models)
    if len(models) < 2 or len(shares) != len(models) or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise UsageError(
            "bad-average",
            f"{len(models)} models and {len(weights)} weights make no mean",
            value=list(weights) or None,
            expected="two models or more, and no weights or one for each, from 0 and not all 0",
        )
    first = load_model(models[0])
    total = {name: shares[0] * tensor.double() for name, tensor in first.state_dict.items()}
    for folder, share in zip(models[1:], shares[1:], strict=True):
        other = load_model(folder)
        _refuse_misfits(first, other, models[0], folder)
        for name, tensor in other.state_dict.items():
            total[name] += share * tensor.double()
    state_dict = {name: (tensor / sum(shares)).float() for name, tensor in total.items()}
    parts = [{"model": one.resolve().name, "digest": _digest(one), "weight": share / sum(shares)}
             for one, share in zip(models, shares, strict=True)]  # fmt: skip
    made = replace(first, state_dict=state_dict, meta=first.meta | {"average": parts})
    rewrite(output, made, source=models[0], section=_section(parts))


def _refuse_misfits(first: Model, other: Model, mine: Path, theirs: Path) -> None:
    """Compare all that must be the same for a weight to mean the same."""
    pairs: dict[str, tuple[Any, Any]] = {
        "sizes": (_sizes(first), _sizes(other)),
        "tokenizers": (first.tokenizer.fingerprint, other.tokenizer.fingerprint),
        "heads": (first.head, other.head),
        "tasks": (_task(first) or _task(other), _task(other) or _task(first)),  # published folders name none
        "labels": (first.labels, other.labels),
        "weights": (_shapes(first), _shapes(other)),
    }
    differing = [name for name, (one, two) in pairs.items() if one != two]
    if differing:
        raise UsageError(
            "cannot-average",
            f"the models have other {' and '.join(differing)}: {mine}, and this one",
            place=theirs,
            expected="models of one shape, tokenizer and task, best from one start",
        )


def _sizes(model: Model) -> dict[str, Any]:
    return model.config.model_dump(exclude={"hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"})


def _task(model: Model) -> Any:
    return model.meta.get("task", {}).get("name")


def _shapes(model: Model) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict.items()}


def _digest(folder: Path) -> str:
    return "-".join(storage.digest(path) for path in sorted(folder.glob("*.safetensors")))


def _section(parts: Sequence[dict[str, Any]]) -> str:
    lines = [f"* {one['model']}: {100 * one['weight']:.0f} % (weights {one['digest'][:16]})" for one in parts]
    told = "The weights are the mean of these models'. The results above are those of the first one alone:"
    return "\n".join(["## Average", "", told, "", *lines])
