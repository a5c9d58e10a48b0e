"""The end of a run: the model folder with its certificate and its card."""

import logging
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from unmask.certify import PRECISIONS, Certificate, certify, computed_by
from unmask.checkpoint import save_model
from unmask.config import Settings
from unmask.data.rows import Table
from unmask.engine.choice import choose, runs
from unmask.evaluate import Evaluation, evaluate
from unmask.golden import make_golden, with_precisions
from unmask.predict import Predictor
from unmask.tasks.base import Task
from unmask.train.card import card
from unmask.train.run import Run

log = logging.getLogger("unmask")

CERTIFIED_ROWS = 100  # fewer do not show half a point


def score_model(task: Task, dev: Table) -> Evaluation:
    """Score the weights to keep on the dev rows as users will compute them: in float32, by this CPU's fastest engine.

    Args:
        task: on the CPU, with the encoder of training; it keeps the settings that it fits to these rows.
        dev: labelled rows.
    """
    engine = choose(task.config, name="torch" if task.needs_dropout else "auto", precision="float32")
    log.info("the kept weights are scored by: %s", engine)
    with computed_by(task, engine):
        return evaluate(Predictor(task), dev, fit=True)


def certify_model(task: Task, dev: Table) -> list[Certificate]:
    """Measure on the dev rows which lower precisions of the compiled kernels lose too little to matter; say it aloud.

    Where they do not run here, there are too few rows, or the task's scores need dropout, nothing is measured.

    Args:
        task: on the CPU, with the weights to keep.
        dev: labelled rows.

    Returns:
        One certificate for each precision that was measured, passed or not.
    """
    there = [one for one in PRECISIONS if runs("native", one, task.config)]
    if not there or len(dev.rows) < CERTIFIED_ROWS or task.needs_dropout:
        return []
    start = time.perf_counter()
    found = certify(task, dev, there, engine="native", has_search=False)
    log.info("precisions measured on the dev rows in %.1f s:", time.perf_counter() - start)
    for one in found:
        log.info("%s%s", one, "" if one.is_passed else "; not certified")
    return found


def write_model(
    run: Run,
    task: Task,
    settings: Settings,
    data: dict[str, str],
    *,
    certificates: Sequence[Certificate] = (),
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write `RUN/model`, whole or not at all.

    Args:
        run: the finished run.
        task: with the weights to keep.
        settings: of the run, for the card.
        data: names and fingerprints of what the model was trained on.
        certificates: of lower precisions; those that have passed are kept.
        notes: more to be kept in `unmask.json`.
    """
    task = task.cpu().eval()
    dtype = getattr(torch, getattr(settings, "weights_dtype", "float32"))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.copy_(parameter.to(dtype))  # the certificate is that of the weights on disk
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
            **notes,
            **engine,
        },
        card=card(run, task, settings, data, list(passed.values())),
        dtype=dtype,
        golden=with_precisions(make_golden(task), lower) if lower else make_golden(task),
        problem_type=task.problem_type,
        files=task.files,
    )
