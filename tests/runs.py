"""Small real pre-training runs for tests: tiny settings, and what a run has computed."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors.torch import load_file

from unmask.train.fit import Step
from unmask.train.progress import Progress
from unmask.train.settings import PretrainSettings


def settings(**changes: Any) -> PretrainSettings:
    """Ten steps of a network of width 16, dropout on, in float32 on one thread."""
    base: dict[str, Any] = {
        "block_length": 32,
        "max_steps": 10,
        "global_batch_size": 8,
        "micro_batch_size": 3,
        "eval_blocks": 8,
        "held_out_tokens": 300,
        "eval_every": 5,
        "save_every": 4,
        "log_every": 1,
        "model": {
            "num_hidden_layers": 2,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_length": 32,
        },
        "optim": {"lr": 1e-2},
        "machine": {"device": "cpu", "dtype": "float32", "threads": 1},
    }
    for name, value in changes.items():
        base[name] = base[name] | value if isinstance(base.get(name), dict) and isinstance(value, dict) else value
    return PretrainSettings.model_validate(base)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind, the last one of each step."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    by_step = {event["step"]: event for event in lines if event["event"] == kind}
    return [by_step[step] for step in sorted(by_step)]


def weights(run: Path) -> dict[str, Any]:
    """Tensors of the finished model."""
    return load_file(run / "model" / "model.safetensors")


@contextlib.contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Send SIGTERM to this process when the run has done a step."""
    show = Progress.show

    def showing(self: Progress, done: Step) -> None:
        show(self, done)
        if done.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(Progress, "show", showing):
        yield
