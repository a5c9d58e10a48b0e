"""One, two and four processes are the same run (RS3); gradients do not depend on how a batch is cut."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import runs, tiny
from tests.faults.ranks import finish, free_port, start
from tests.unit.data.corpora import small_corpus
from unmask.config import to_toml
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings, PretrainSettings

# Prints the length of the gradient of one global batch and of its difference from the same on one process, both ways.
GRADIENT = """
import os
import torch
from tests import tiny
from unmask.runtime import machine
from unmask.train.distributed import ALONE, ranks
from unmask.train.fit import Trainer
from unmask.train.parallel import whole
from unmask.train.settings import OptimSettings
torch.set_num_threads(1)
def gradient(batches, task, group):
    trainer = Trainer(
        task, OptimSettings(max_grad_norm=0), max_steps=2, machine=machine("float32", "cpu"), seed=0, ranks=group
    )
    seen = {}
    trainer.optimizer.step = lambda lr: seen.update(
        {name: whole(one.grad).clone() for name, one in task.named_parameters() if one.grad is not None}
    )
    next(trainer.fit([batches]))
    return seen
def part(task):
    rows = tiny.rows_of(task)
    return [task.collate(task.encode(some, is_training=True)) for some in (rows[:1], rows[1:])]
task = tiny.masked_lm()
wanted = gradient(part(task), task, ALONE)
for strategy in ("ddp", "fsdp"):
    with ranks(strategy) as group:
        task = tiny.masked_lm()
        batches = part(task)
        assert batches[0].counts != batches[1].counts, "a mean of means would be the same"
        found = gradient([batches[group.rank]], task, group)
        assert found.keys() == wanted.keys()
        pairs = [(found[name] - wanted[name], wanted[name]) for name in wanted]
        norms = [torch.cat([one[i].flatten() for one in pairs]).norm().item() for i in (0, 1)]
        print(strategy, *norms, flush=True)
os._exit(0)
"""

# Rank 1's part of the loss jumps at three steps; every rank prints its losses and where it goes back to.
SPIKES = """
import os
import sys
from pathlib import Path
import torch
from unmask.train.checkpoints import Checkpoints
from unmask.train.fit import Trainer
from unmask.train.pretrain import pretrain
from unmask.train.progress import Progress
from unmask.train.settings import PretrainSettings
torch.set_num_threads(1)
corpus, output, settings = sys.argv[1:]
backward, show, before = Trainer._backward, Progress.show, Checkpoints.before
def jumping(self, batch, divisor, *, is_last):
    loss = backward(self, batch, divisor, is_last=is_last)
    is_it = self.step + 1 in (18, 19, 20) and self.ranks.rank == self.ranks.world_size - 1
    return loss * 100 if is_it else loss
def telling(self, step):
    show(self, step)
    print("step", step.step, step.loss, step.verdict)
def naming(self, step):
    folder = before(self, step)
    print("back to", folder.name)
    return folder
Trainer._backward, Progress.show, Checkpoints.before = jumping, telling, naming
pretrain([Path(corpus)], Path(output), PretrainSettings.model_validate_json(settings))
sys.stdout.flush()
os._exit(0)
"""

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-6

PRETRAIN = """
import os
import sys
from pathlib import Path
import torch
from tests import runs
from unmask.errors import UnmaskError
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings
torch.set_num_threads(1)
corpus, output, settings, end = sys.argv[1:]
try:
    with runs.stopped_at(int(end)):
        pretrain([Path(corpus)], Path(output), PretrainSettings.model_validate_json(settings))
except UnmaskError as error:
    sys.stderr.write(str(error))
    sys.stderr.flush()
    os._exit(error.exit_code)
os._exit(0)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), num_documents=80).folder


def train(count: int, corpus: Path, output: Path, settings: PretrainSettings, end: int = 0) -> Path:
    """Run `count` ranks to the end, or until they are asked to stop at a step."""
    wanted = 143 if end else 0
    for code, out, err in finish(start(count, PRETRAIN, corpus, output, settings.model_dump_json(), end)):
        assert code == wanted, out + err
    return output


def losses(run: Path, kind: str = "step") -> list[float]:
    return [event["loss"] for event in runs.events(run, kind)]


def without_dropout(**changes: object) -> PretrainSettings:
    return runs.settings(**({"model": {"hidden_dropout_prob": 0.0}} | changes))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_rs3_two_and_four_ranks_have_the_losses_of_one(strategy: str, corpus: Path, tmp_path: Path) -> None:
    chosen = without_dropout(machine={"strategy": strategy})
    alone = losses(train(1, corpus, tmp_path / "1", chosen))
    assert len(alone) == 10
    for count in (2, 4):
        run = train(count, corpus, tmp_path / str(count), chosen)
        assert losses(run) == pytest.approx(alone, rel=LOSS_TOLERANCE)
        assert losses(run, "evaluation") == pytest.approx(losses(tmp_path / "1", "evaluation"), rel=LOSS_TOLERANCE)
    assert Predictor.load(tmp_path / "4" / "model")(["the <mask> runs"])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_rs3_a_run_goes_on_with_another_number_of_ranks(strategy: str, corpus: Path, tmp_path: Path) -> None:
    longer = {"block_lengths": (16,), "block_shares": (0.5,)}
    chosen = without_dropout(
        machine={"strategy": strategy}, optim={"optimizer": "muon", "ema_decay": 0.5}, curriculum=longer
    )
    alone = losses(train(1, corpus, tmp_path / "straight", chosen))
    for count, end in ((1, 3), (2, 6), (4, 9), (1, 0)):
        train(count, corpus, tmp_path / "changing", chosen, end)
    assert losses(tmp_path / "changing") == pytest.approx(alone, rel=LOSS_TOLERANCE)


def test_two_ranks_go_back_together_after_spikes_on_one(corpus: Path, tmp_path: Path) -> None:
    guard = {"window": 8, "spike_sigmas": 50}
    chosen = without_dropout(max_steps=24, save_every=8, eval_every=24, optim={"lr": 1e-3}, guard=guard)
    told = {}
    for count in (1, 2):
        found = finish(start(count, SPIKES, corpus, tmp_path / str(count), chosen.model_dump_json()))
        assert [code for code, _, _ in found] == [0] * count, found
        told[count] = [[line for line in out.splitlines() if line.startswith(("step", "back"))] for _, out, _ in found]
    first, second = told[2]
    assert first == second, "every rank has the same losses to the last bit, and goes back to the same checkpoint"
    assert first[20] == "back to step-000000016"
    assert [line.split()[3] for line in first[17:20]] == ["skip", "skip", "roll"]
    assert losses(tmp_path / "2")[20:] == pytest.approx(losses(tmp_path / "1")[20:], rel=LOSS_TOLERANCE)


def gradients(batches: list, task, count: int = 1) -> dict[str, torch.Tensor]:
    """The gradient of one global batch, given as micro-batches."""
    trainer = Trainer(task, OptimSettings(max_grad_norm=0), max_steps=2, machine=machine("float32", "cpu"), seed=0)
    seen = {}
    trainer.optimizer.step = lambda lr: seen.update(
        {name: one.grad.clone() for name, one in task.named_parameters() if one.grad is not None}
    )
    next(trainer.fit([batches]))
    return seen


def test_two_ranks_have_the_gradient_of_one_whatever_their_numbers_of_targets() -> None:
    for code, out, err in finish(start(2, GRADIENT)):
        assert code == 0, out + err
        lines = [line.split() for line in out.splitlines()]
        assert [line[0] for line in lines] == ["ddp", "fsdp"]
        for strategy, difference, norm in lines:
            assert float(norm) > 0.1
            assert float(difference) <= GRADIENT_TOLERANCE * float(norm), strategy


def test_one_batch_of_n_equals_n_batches_of_one(corpus: Path) -> None:
    del corpus
    task = tiny.masked_lm()
    features = task.encode(tiny.rows_of(task), is_training=True)
    whole = gradients([task.collate(features)], task)
    single = gradients([task.collate([one]) for one in features], task)
    counts = {len(one.targets[0]) for one in features}
    assert len(counts) > 1, "a mean over batches would be another gradient"
    for name, value in whole.items():
        assert torch.linalg.vector_norm(value - single[name]) <= GRADIENT_TOLERANCE * max(
            1e-3, float(torch.linalg.vector_norm(value))
        ), name


def test_torchrun_starts_the_command(corpus: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "tiny.toml"
    chosen.write_text(to_toml(without_dropout(max_steps=3, eval_every=3, machine={"strategy": "fsdp"})))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "-m", "unmask", "pretrain", "--recipe", str(chosen)]
    command += ["--corpus", str(corpus), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held out: ") == 1, "one rank speaks"
    assert len(runs.events(tmp_path / "run", "step")) == 3
