"""Going on equals not stopping, to the last bit, wherever and however often it is stopped (RS1, RS2, RS5)."""

import random
from pathlib import Path

import pytest
import torch

from tests import runs
from tests.unit.data.corpora import small_corpus
from unmask.errors import InterruptedRunError
from unmask.train.pretrain import pretrain

LONG = {"max_steps": 30, "eval_every": 6, "save_every": 5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), num_documents=80).folder


def same(one: Path, other: Path) -> bool:
    first, second = runs.weights(one), runs.weights(other)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def curve(run: Path) -> list[tuple[float, ...]]:
    return [tuple(event[name] for name in ("step", "loss", "grad_norm", "lr")) for event in runs.events(run, "step")]


RECIPES = {
    "muon, words, mean of weights, growing batch": {
        "optim": {"optimizer": "muon", "ema_decay": 0.9, "schedule": "wsd"},
        "masking": {"unit": "word", "mask_prob": 0.3, "mask_prob_end": 0.15},
        "curriculum": {
            "block_lengths": (16,),
            "block_shares": (0.5,),
            "start_batch_size": 3,
            "batch_warmup_ratio": 0.4,
        },
    },
    "pairs, static masks": {
        "input_format": "segment_pair",
        "objective": "mlm+nsp",
        "masking": {"copies": 2},
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_rs1_stopped_at_ten_random_steps(name: str, corpus: Path, tmp_path: Path) -> None:
    chosen = runs.settings(**LONG, **RECIPES[name])
    assert chosen.model.hidden_dropout_prob > 0
    pretrain([corpus], tmp_path / "straight", chosen)
    for step in sorted(random.Random(0).sample(range(1, 28, 2), 10)):
        with runs.stopped_at(step), pytest.raises(InterruptedRunError):
            pretrain([corpus], tmp_path / "stopped", chosen)
    pretrain([corpus], tmp_path / "stopped", chosen)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "straight")
    assert same(tmp_path / "straight", tmp_path / "stopped")


def test_rs2_other_numbers_of_data_threads(corpus: Path, tmp_path: Path) -> None:
    pretrain([corpus], tmp_path / "straight", runs.settings(**LONG, machine={"data_threads": 0}))
    for step, threads in ((7, 2), (15, 1)):
        chosen = runs.settings(**LONG, machine={"data_threads": threads})
        with runs.stopped_at(step), pytest.raises(InterruptedRunError):
            pretrain([corpus], tmp_path / "changing", chosen)
    pretrain([corpus], tmp_path / "changing", runs.settings(**LONG, machine={"data_threads": 3, "async_save": False}))
    assert same(tmp_path / "straight", tmp_path / "changing")


def test_rs5_the_seed_decides(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain([corpus], tmp_path / name, runs.settings(seed=seed))
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")
