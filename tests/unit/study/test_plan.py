"""A plan against the run that it describes."""

import json
import resource
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.cli import app
from unmask.config import flags, load_recipe, resolve
from unmask.study.plan import OVERHEAD, Candidate, Plan, choose, command, plan, recipe_text, with_size
from unmask.train.flops import pretraining_flops
from unmask.train.network import build_network, load_corpora
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings

SIZES = ((1, 32), (2, 64))
HOURS = 2.0 / 3600
SMALL = {
    "block_length": 48, "global_batch_size": 24, "micro_batch_size": 12, "held_out_tokens": 500, "eval_blocks": 4,
    "keep_checkpoints": 1, "model": {"max_length": 48}, "machine": {"threads": 1, "dtype": "float32"},
}  # fmt: skip
# Neighbours on the machine make one minute twice as fast as the next.
FACTOR = 4.0


@pytest.fixture(scope="module")
def base() -> PretrainSettings:
    return resolve(PretrainSettings, load_recipe("mini", "pretrain"), SMALL)


@pytest.fixture(scope="module")
def made(folders: list[Path], base: PretrainSettings) -> Plan:
    return plan(folders, base, hours=HOURS, probe_seconds=20.0, sizes=SIZES)


def test_a_run_goes_as_planned(folders: list[Path], made: Plan, tmp_path: Path) -> None:
    found = made.candidates[1]
    assert found.is_measured
    result = pretrain(folders, tmp_path / "run", found.settings)
    events = list(map(json.loads, (tmp_path / "run/events.jsonl").read_text().splitlines()))
    trained = sum(one["seconds"] for one in events if one["event"] == "step")
    assert found.num_steps / FACTOR < result.steps <= found.num_steps
    assert trained <= HOURS * 3600
    steps = [one for one in events if one["event"] == "step"]
    step_tokens = sum(one["num_tokens"] for one in steps) / len(steps)
    assert found.num_tokens == pytest.approx(found.num_steps * step_tokens, rel=0.1)
    (checkpoint,) = (tmp_path / "run/checkpoints").glob("step-*")
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    model = sum(path.stat().st_size for path in result.model.iterdir())
    assert found.disk_bytes == pytest.approx(2 * size + model, rel=0.15)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak / 2 < found.memory_bytes < peak * 1.1


def test_figures_agree_with_each_other(folders: list[Path], made: Plan) -> None:
    _, tokenizer = load_corpora(folders)
    for one in made.candidates:
        task = build_network(tokenizer, one.settings, None)
        assert one.num_parameters == sum(part.numel() for part in task.parameters())
        assert one.body_parameters == sum(part.numel() for part in task.encoder.layers.parameters())
        assert one.settings.max_steps == one.num_steps
        assert one.settings.max_hours == pytest.approx(HOURS * (1 - OVERHEAD), rel=1e-3)
        assert one.hours == pytest.approx(HOURS, rel=0.05)
        assert one.num_tokens == pytest.approx(one.num_steps * one.step_seconds * one.tokens_per_second, rel=0.01)
        assert one.epochs > 1
    assert any(line.startswith("> ") for line in made.to_lines())


def test_sizes_that_do_not_fit_into_the_probe_follow_from_the_arithmetic(
    folders: list[Path], base: PretrainSettings
) -> None:
    small, large = plan(folders, base, hours=1, probe_seconds=0.0, sizes=SIZES).candidates
    assert (small.is_measured, large.is_measured) == (True, False)
    _, tokenizer = load_corpora(folders)
    works = [
        pretraining_flops(
            build_network(tokenizer, one.settings, None).config, length=48, mask_prob=base.masking.prob_at(0.5)
        )
        for one in (small, large)
    ]
    assert large.tokens_per_second == pytest.approx(small.tokens_per_second * works[0] / works[1])
    assert large.memory_bytes > small.memory_bytes


def candidate(base: PretrainSettings, layers: int, ratio: float, epochs: float) -> Candidate:
    return Candidate(layers, 64, 2000, 1000, 1.0, True, 1, 1.0, int(1000 * ratio), epochs, 1.0, 1, 1, base)


@pytest.mark.parametrize(
    ("ratios", "num_bytes", "epochs", "chosen", "reason"),
    [
        ((500.0, 17.0, 2.0, 0.1), 10**9, 1.0, 1, "17.0 tokens for each parameter"),
        ((0.1, 0.05, 0.01, 0.0), 10**9, 1.0, 0, "nearest to the 20"),
        ((900.0, 400.0, 90.0, 25.0), 10**9, 1.0, 3, "the MiniBERTa of 100 M words"),
        ((900.0, 400.0, 90.0, 25.0), 10**7, 1.0, 2, "6 layers for so little text"),
        ((900.0, 400.0, 90.0, 25.0), 10**9, 9.0, 3, "dropout helps"),
        ((900.0, 400.0, 90.0, 25.0), 10**9, 90.0, 3, "90 passes over the text are many"),
    ],
)
def test_the_recommended_size_and_why(
    base: PretrainSettings, ratios: tuple[float, ...], num_bytes: int, epochs: float, chosen: int, reason: str
) -> None:
    candidates = [candidate(base, layers, ratio, epochs) for layers, ratio in zip((2, 4, 6, 12), ratios, strict=True)]
    found, reasons = choose(candidates, num_bytes)
    assert found == chosen
    assert any(reason in line for line in reasons), reasons


def test_the_learning_rate_falls_with_the_width(base: PretrainSettings) -> None:
    assert base.model.hidden_size == 256
    assert [with_size(base, 2, width).optim.lr for width in (128, 256, 768)] == [3e-3, 3e-3, 1e-3]
    assert with_size(base, 2, 768).model.num_attention_heads == 12


def test_command_and_recipe_start_the_run_that_was_planned(base: PretrainSettings, made: Plan, tmp_path: Path) -> None:
    chosen = made.candidates[1].settings
    recipe = tmp_path / "a plan.toml"
    recipe.write_text(recipe_text(made.candidates[1], made.reasons))
    by_file = command([Path("my corpus"), Path("other")], str(recipe), chosen, chosen)
    by_flags = command([Path("my corpus")], "mini", resolve(PretrainSettings, load_recipe("mini", "pretrain")), chosen)
    for line in (by_file, by_flags):
        _, bound, _ = app.parse_args(shlex.split(line)[1:])
        given = bound.arguments
        assert given["corpus"][0] == Path("my corpus")
        resolved = resolve(
            PretrainSettings, load_recipe(given["recipe"], "pretrain"), flags(given.get("settings", PretrainSettings()))
        )
        assert resolved == chosen
    assert by_file.endswith(f"--recipe '{recipe}'")
    assert "--model.hidden-size 64" in by_flags
    assert replace(made, chosen=1).best is made.candidates[1]
