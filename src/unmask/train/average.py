"""The mean of several models' weights: the seeds of one training as one model of the same size."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask import storage
from unmask.checkpoint import Model, load_model
from unmask.errors import UsageError
from unmask.train.rewrite import rewrite

log = logging.getLogger("unmask")

# Found on dev rows behind training, so that seeds differ in them.
_FITTED = {"temperature", "thresholds", "null_threshold", "dev_texts"}
_OF_TRAINING = {
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "head_dropout", "label_smoothing"),
    *("class_weights", "class_shares", "classifier_pooling"),
}
_OF_WRITING = {"num_beams", "num_candidates", "length_penalty", "min_length", "no_repeat_ngram", "top_k"}
_LEAST_COSINE = 0.5  # matrices of one start stay near each other (0.999 after a fine-tuning), others lie at 0


def average_models(models: Sequence[Path], output: Path, *, weights: Sequence[float] = ()) -> None:
    """Write the weighted mean of the weights of model folders (model soups, Wortsman et al. 2022).

    It answers like a mean of the models where they come from one start, as the seeds of a fine-tuning do. Settings that
    were fitted on dev rows, such as a temperature, are those of the first model.

    Args:
        models: two folders or more, of one shape, tokenizer and task, with the same settings and labels.
        output: the new folder; it must not exist. Its weights have the number format of the first one's.
        weights: share of each model, of any sum; by default the same for all.

    Raises:
        UsageError: there are fewer than two models, not as many weights as models, one model is there twice, or the
            models do not fit each other: the place where they first differ is named.
        ArtefactError: a folder is no model, or a corrupt one.
    """
    if output.exists():
        raise UsageError("exists", "the output folder exists already", place=output, remedy="choose another name")
    shares = _shares(models, weights)
    loaded = [load_model(folder) for folder in models]
    for model in loaded:
        if model.other_vectors is not None:
            raise model.other_vectors
    first, *others = loaded
    for folder, other in zip(models[1:], others, strict=True):
        _refuse_misfits(first, other, models[0], folder)
    _tell_apart(loaded, models)
    mean = {
        name: sum(share * one.state_dict[name].double() for one, share in zip(loaded, shares, strict=True)).float()  # type: ignore[union-attr]
        for name in first.state_dict
    }
    parts = [
        {"model": storage.told_name(folder), "digest": storage.weights_digest(folder), "weight": share}
        | {name: one.meta[name] for name in ("average",) if name in one.meta}
        for folder, one, share in zip(models, loaded, shares, strict=True)
    ]
    data = dict(itertools.chain.from_iterable(one.meta.get("data", {}).items() for one in reversed(loaded)))
    places = _places(loaded, shares)
    meta = first.meta | ({"data": data} if data else {}) | {"average": parts, **places}
    rewrite(output, replace(first, state_dict=mean, meta=meta), source=models[0], section=_section(parts))


def _shares(models: Sequence[Path], weights: Sequence[float]) -> list[float]:
    """What each model weighs, 1 together."""
    given = list(weights) or [1.0] * len(models)
    if len(models) < 2 or len(given) != len(models) or not (min(given) >= 0 and 0 < sum(given) < float("inf")):
        raise UsageError(
            "bad-average",
            f"{len(models)} models and the weights {list(weights) or 'not given'} make no mean",
            place="--weight" if weights else "models",
            expected="two models or more, and no weights or one for each, from 0 and not all 0",
            remedy="name the models one after the other, and --weight once for each of them",
        )
    seen: dict[str, Path] = {}
    for folder in models:
        if (digest := storage.weights_digest(folder)) and digest in seen:
            raise UsageError(
                "same-model",
                f"it has the weights of {seen[digest]}, and would count twice",
                place=folder,
                remedy="name it once; --weight says how much a model counts",
            )
        seen[digest] = folder
    return [share / sum(given) for share in given]


def _places(models: Sequence[Model], shares: Sequence[float]) -> dict[str, int]:
    """How many places the mean has learned: as many as any of its parts, since pre-training replaces those behind."""
    whole = models[0].config.max_length
    learned = max(one.meta.get("places", whole) for one, share in zip(models, shares, strict=True) if share)
    return {"places": learned} if any("places" in one.meta for one in models) else {}


def _refuse_misfits(first: Model, other: Model, mine: Path, theirs: Path) -> None:
    """Compare all that must be the same for a weight to mean the same."""
    ours, others = _traits(first), _traits(other)
    is_noted = bool(first.meta.get("task") and other.meta.get("task"))  # a published folder says nothing of its task
    for name in ours | others:
        one, two = ours.get(name), others.get(name)
        is_known = is_noted or name != "task"
        if name.startswith("setting "):  # a folder of before a setting knows nothing of it
            is_known = name in ours and name in others
        if one != two and is_known:
            raise UsageError(
                "cannot-average",
                f"the models differ in the {name}: {one!r} in {mine}",
                place=theirs,
                value=two,
                expected="models of one shape, tokenizer, task and start, such as the seeds of a fine-tuning",
            )


def _traits(model: Model) -> dict[str, Any]:
    """What must be the same, by name."""
    task = model.meta.get("task", {})
    known: dict[str, Any] = {"head": model.head, "labels": model.labels, "kind of labels": model.problem_type}
    known |= {f"size {name}": value for name, value in model.config if name not in _OF_TRAINING}
    known |= {"pooling of the head": "mean" if model.config.pools_mean(model.head) else "cls"}
    known |= {"tokenizer": model.tokenizer.fingerprint, "task": task.get("name")}
    known |= {f"weight {name}": tuple(tensor.shape) for name, tensor in model.state_dict.items()}
    settings = task.get("settings", {}).items()
    known |= {f"setting {name}": value for name, value in settings if name not in _FITTED | _OF_TRAINING | _OF_WRITING}
    return known


def _tell_apart(loaded: Sequence[Model], models: Sequence[Path]) -> None:
    """Refuse encoders that did not start from the same weights, and warn of heads that did not."""
    for folder, other in zip(models[1:], loaded[1:], strict=True):
        for name, tensor in loaded[0].state_dict.items():
            if tensor.ndim < 2 or min(tensor.shape) < 2 or torch.equal(tensor, other.state_dict[name]):
                continue
            cosine = float(torch.cosine_similarity(tensor.flatten(), other.state_dict[name].flatten(), dim=0))
            if cosine >= _LEAST_COSINE:
                continue
            if name.startswith("encoder."):
                raise UsageError(
                    "cannot-average",
                    f"the models did not start from the same weights, so that their mean is that of neither: {name}",
                    place=folder,
                    value=f"cosine {cosine:.3f}",
                    expected=f"at least {_LEAST_COSINE}, as among the seeds of a fine-tuning",
                )
            log.warning(
                "the heads of %s and %s began apart (%s: cosine %.2f): their mean answers more weakly, and what was "
                "fitted on dev rows, such as a temperature, is off; start from a model with a head to avoid it",
                storage.told_name(models[0]), storage.told_name(folder), name, cosine,
            )  # fmt: skip
            break


def _section(parts: Sequence[dict[str, Any]]) -> str:
    lines = [f"* {one['model']}: {100 * one['weight']:.0f} % (weights {one['digest'][:16]})" for one in parts]
    told = "The weights are the mean of these models'. Whatever else this card says is said of the first one:"
    return "\n".join(["## Average", "", told, "", *lines])
