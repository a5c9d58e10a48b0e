"""Which parameter moves how: Muon against torch's own, groups, decay from layer to layer, schedules."""

import itertools
import math

import pytest
import torch

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask.tasks.base import Task
from unmask.train.muon import Muon, orthogonalize
from unmask.train.optim import Optimizers, height
from unmask.train.schedule import schedule
from unmask.train.settings import OptimSettings


def matrices(*shapes: tuple[int, int]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def test_muon_equals_torchs_own_over_several_steps() -> None:
    mine = matrices((16, 16), (16, 16), (8, 32), (32, 8))
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in mine]
    ours = Muon([{"params": mine}], lr=0.02, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon(
        theirs, lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for one, other in zip(mine, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        reference.step()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)  # both round to bfloat16, in another order


def test_muon_takes_fused_matrices_apart() -> None:
    fused = matrices((24, 8))
    apart = [torch.nn.Parameter(part.detach().clone()) for part in fused[0].split(8)]
    fused[0].grad = torch.randn(24, 8)
    for one, part in zip(apart, fused[0].grad.split(8), strict=True):
        one.grad = part.clone()
    Muon([{"params": fused, "parts": 3}], lr=0.1).step()
    Muon([{"params": apart}], lr=0.1).step()
    assert torch.equal(fused[0], torch.cat([one.detach() for one in apart]))


def test_orthogonalized_matrices_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 24, 40)))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def groups_of(settings: OptimSettings, task: Task | None = None) -> dict[str, dict]:
    task = task or tiny.masked_lm()
    made = Optimizers(task, settings)
    names = {parameter: name for name, parameter in task.named_parameters()}
    return {
        names[parameter]: group | {"kind": type(part).__name__}
        for part in made.parts
        for group in part.param_groups
        for parameter in group["params"]
    }


def test_muon_gets_the_hidden_matrices_and_nothing_else() -> None:
    groups = groups_of(OptimSettings(optimizer="muon"))
    by_muon = {name for name, group in groups.items() if group["kind"] == "Muon"}
    kinds = ("qkv", "attention_out", "up", "down")
    assert by_muon == {f"encoder.layers.{layer}.{kind}.weight" for layer in (0, 1) for kind in kinds}
    assert groups["encoder.layers.0.qkv.weight"]["parts"] == 3
    assert groups["encoder.layers.0.up.weight"]["parts"] == 1


@pytest.mark.parametrize("decay_all", [False, True])
def test_biases_and_norms_decay_only_when_asked(decay_all: bool) -> None:
    groups = groups_of(OptimSettings(weight_decay=0.3, decay_all=decay_all))
    assert groups["encoder.layers.0.up.weight"]["weight_decay"] == 0.3
    assert groups["encoder.layers.0.up.bias"]["weight_decay"] == (0.3 if decay_all else 0.0)
    assert groups["encoder.embeddings.norm.weight"]["weight_decay"] == (0.3 if decay_all else 0.0)


def test_rates_fall_from_layer_to_layer() -> None:
    groups = groups_of(OptimSettings(layer_lr_decay=0.5, layer_weight_decay=0.1, weight_decay=1.0))
    at = {
        name: (groups[f"{name}.weight"]["lr_factor"], groups[f"{name}.weight"]["weight_decay"])
        for name in ("head.dense", "encoder.layers.1.up", "encoder.layers.0.up", "encoder.embeddings.word")
    }
    assert at == {
        "head.dense": (1.0, 1.0),
        "encoder.layers.1.up": (0.5, pytest.approx(0.1)),
        "encoder.layers.0.up": (0.25, pytest.approx(0.01)),
        "encoder.embeddings.word": (0.125, pytest.approx(0.001)),
    }
    names = ("encoder.embeddings.word", "encoder.layers.3.up.bias", "head.bias", "decoder.layers.0.up.weight")
    assert [height(name, 13) for name in names] == [0, 4, 13, 13]


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_stands_on_the_encoder_has_the_full_rate(name: str) -> None:
    task = MAKERS[name]()
    groups = groups_of(OptimSettings(layer_lr_decay=0.5), task)
    factors = {group["lr_factor"] for one, group in groups.items() if not one.startswith("encoder.")}
    assert factors == {1.0} or (name == "embedding" and not factors), "sentence vectors have no head"
    assert groups["encoder.layers.1.up.weight"]["lr_factor"] == 0.5


def test_frozen_parameters_are_left_alone() -> None:
    task = tiny.masked_lm()
    task.encoder.embeddings.requires_grad_(False)
    groups = groups_of(OptimSettings(), task)
    assert groups.keys() == {name for name, _ in task.named_parameters() if ".embeddings." not in name}


def test_one_step_moves_each_parameter_by_its_own_rate() -> None:
    task = tiny.masked_lm()
    before = {name: one.detach().clone() for name, one in task.named_parameters()}
    made = Optimizers(task, OptimSettings(layer_lr_decay=0.5, weight_decay=0.0))
    for parameter in task.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step(1e-2)
    moved = {name: float((one.detach() - before[name]).abs().mean()) for name, one in task.named_parameters()}
    assert moved["head.dense.weight"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["encoder.layers.1.up.weight"] == pytest.approx(0.5e-2, rel=1e-3)
    assert moved["encoder.embeddings.word.weight"] == pytest.approx(0.125e-2, rel=1e-3)


def factors(steps: int, **settings: object) -> list[float]:
    chosen = OptimSettings(**settings)
    return [schedule((step - 1) / steps, step / steps, chosen) for step in range(1, steps + 1)]


def test_schedules() -> None:
    steps = 100
    linear = factors(steps, warmup_ratio=0.1)
    assert linear[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert linear[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])
    cosine = factors(steps, schedule="cosine", warmup_ratio=0.0, final_lr_ratio=0.1)
    assert cosine[0] == pytest.approx(1.0)
    assert cosine[50] == pytest.approx(0.55)
    assert cosine[-1] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 0.99)) / 2)
    assert factors(steps, schedule="constant", warmup_ratio=0.1)[10:] == [1.0] * 90
    stable = factors(steps, schedule="wsd", warmup_ratio=0.1, decay_ratio=0.2)
    assert stable[10:81] == [1.0] * 71
    assert stable[90] == pytest.approx(1 - math.sqrt(0.5))
    assert all(early >= late for early, late in itertools.pairwise(stable[80:]))
    assert 0 < stable[-1] < 0.05


def test_the_state_can_be_made_before_the_first_step_without_moving_anything() -> None:
    task = tiny.masked_lm()
    before = [one.detach().clone() for one in task.parameters()]
    made = Optimizers(task, OptimSettings(optimizer="muon", weight_decay=0.5))
    made.make_state()
    assert all(torch.equal(one, old) for one, old in zip(task.parameters(), before, strict=True))
    kinds = {frozenset(made.state(one)) for one in task.parameters()}
    assert kinds == {frozenset({"momentum"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}
