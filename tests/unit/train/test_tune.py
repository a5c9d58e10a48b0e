"""The search: it goes on after a kill as if nothing had been, cuts hopeless trials short, and its recipe repeats it."""

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from safetensors.torch import load_file

from tests import tiny
from unmask.cli import main
from unmask.cli.train import Source
from unmask.config import load_recipe, resolve
from unmask.errors import InterruptedRunError, NumericError, UsageError
from unmask.train import tune as module
from unmask.train.finetune import FinetuneResult, finetune, read_result
from unmask.train.progress import Progress
from unmask.train.settings import FinetuneSettings, TuneSettings
from unmask.train.tune import Range, TuneResult, default_space, nested, read_space, tune

BASE: dict[str, Any] = {
    "epochs": 2,
    "patience": 10,
    "log_every": 1,
    "machine": {"device": "cpu", "dtype": "float32", "threads": 1},
}
SPACE = """
"optim.lr" = {low = 1e-5, high = 1e-1, log = true}
batch_size = [8, 16]
[optim]
warmup_ratio = {low = 0, high = 0.5}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a model to start from, and a space."""
    folder = tmp_path_factory.mktemp("tune")
    texts = [(f"{text} {n}", "good") for n in range(3) for text in tiny.GOOD]
    texts += [(f"{text} {n}", "bad") for n in range(3) for text in tiny.BAD]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": a, "label": b}) + "\n" for a, b in texts))
    tiny.saved(tiny.masked_lm(), folder / "start")
    (folder / "space.toml").write_text(SPACE)
    return folder


def search(folder: Path, output: Path, trials: int, **settings: Any) -> TuneResult:
    asked = TuneSettings(trials=trials, space=folder / "space.toml")
    return tune(folder / "rows.jsonl", output, asked, model=folder / "start", given=(BASE, settings))


@pytest.fixture(scope="module")
def straight(folder: Path) -> TuneResult:
    """A search that nothing has disturbed."""
    return search(folder, folder / "straight", 3)


def test_search_and_training_start_from_the_same_and_flags_win_over_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 5\nbatch_size = 8\n")
    source = Source(model="model", recipe=str(tmp_path / "mine.toml"))
    inputs = source.inputs(FinetuneSettings(epochs=2))
    assert resolve(FinetuneSettings, *inputs.pop("given")) == FinetuneSettings(epochs=2, batch_size=8)
    assert inputs == {"dev": None, "model": "model", "task": None}


def test_the_recipe_and_the_model_are_those_of_the_best_trial(
    folder: Path, straight: TuneResult, tmp_path: Path
) -> None:
    assert [one.state for one in straight.trials] == ["complete"] * 3
    assert straight.best.score == max(one.score or 0.0 for one in straight.trials)
    recipe = load_recipe(str(straight.recipe), "finetune")
    assert recipe == BASE | nested(straight.best.values)
    again = finetune(folder / "rows.jsonl", tmp_path / "again", model=folder / "start", given=(recipe,))
    assert again.main_score == straight.best.score
    first, second = (load_file(path / "model.safetensors") for path in (again.model, straight.model))
    assert all(bool((value == second[name]).all()) for name, value in first.items())
    lines = (folder / "straight/trials.tsv").read_text().splitlines()
    assert lines[0] == "trial\tstate\taccuracy\toptim.lr\tbatch_size\toptim.warmup_ratio"
    assert lines[1].startswith(f"{straight.best.number}\tcomplete\t")
    assert len(lines) == 4


def test_values_stay_inside_the_space_and_differ(straight: TuneResult) -> None:
    for one in straight.trials:
        assert 1e-5 <= one.values["optim.lr"] <= 1e-1
        assert one.values["batch_size"] in (8, 16)
        assert 0 <= one.values["optim.warmup_ratio"] <= 0.5
    assert len({one.values["optim.lr"] for one in straight.trials}) == 3


def test_only_the_best_trial_keeps_its_weights(folder: Path, straight: TuneResult) -> None:
    kept = {path.parent.name for path in (folder / "straight/trials").glob("*/model")}
    assert kept == {f"trial-{straight.best.number:03d}"}
    assert not list((folder / "straight/trials").glob("*/checkpoints"))


@pytest.mark.parametrize("is_killed", [False, True])
def test_an_interrupted_search_tries_what_an_undisturbed_one_tries(
    is_killed: bool, folder: Path, straight: TuneResult, tmp_path: Path, monkeypatch
) -> None:
    show, shown = Progress.show, []

    def showing(self: Progress, step: Any) -> None:
        show(self, step)
        shown.append(step)
        if len(shown) in (4, 9):  # behind the first epoch of a trial
            if is_killed:  # nothing is saved
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Progress, "show", showing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt if is_killed else InterruptedRunError):
            search(folder, tmp_path / "stopped", 3)
    assert search(folder, tmp_path / "stopped", 3).trials == straight.trials
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "stopped/study.log"))
    study = optuna.load_study(study_name="unmask", storage=optuna.storages.JournalStorage(backend))
    ended = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert [sorted(one.intermediate_values) for one in ended] == [[1, 2]] * 3, "what was reported before counts"


def test_more_trials_go_on_with_the_same_search_and_another_one_is_refused(folder: Path, straight: TuneResult) -> None:
    more = search(folder, folder / "straight", 4)
    assert more.trials[:3] == straight.trials
    assert len(more.trials) == 4
    with pytest.raises(UsageError, match="other inputs, settings"):
        search(folder, folder / "straight", 4, seed=1)


def test_a_trial_below_the_median_ends_early_and_the_best_score_wins(folder: Path, tmp_path: Path, monkeypatch) -> None:
    asked: list[int] = []

    def is_hopeless(self: Any) -> bool:
        asked.append(self.number)
        return self.number == 1

    def scored(run: Path) -> FinetuneResult:
        return replace(read_result(run), scores={"accuracy": 0.1 + asked[-1]})

    monkeypatch.setattr("optuna.Trial.should_prune", is_hopeless)
    monkeypatch.setattr(module, "read_result", scored)
    found = search(folder, tmp_path / "run", 3)
    assert [one.state for one in found.trials] == ["complete", "pruned", "complete"]
    assert asked == [0, 0, 1, 2, 2], "once behind each epoch"
    assert (found.best.number, found.best.score) == (2, 2.1)


def test_a_trial_that_diverges_is_no_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wild.toml").write_text('"optim.lr" = [1e30, 1e-3]\n')
    asked = TuneSettings(trials=4, space=tmp_path / "wild.toml")
    given = ({**BASE, "optim": {"max_grad_norm": 0.0}},)
    found = tune(folder / "rows.jsonl", tmp_path / "run", asked, model=folder / "start", given=given)
    assert {one.state for one in found.trials} == {"complete", "fail"}
    assert found.best.values == {"optim.lr": 1e-3}
    (tmp_path / "wild.toml").write_text('"optim.lr" = [1e30]\n')
    with pytest.raises(NumericError, match="no trial"):
        tune(folder / "rows.jsonl", tmp_path / "none", asked, model=folder / "start", given=given)


def test_values_that_do_not_go_together_are_a_failed_trial_and_options_may_vary(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text("[options]\nstride = [0, 4]\n")
    asked = TuneSettings(trials=4, space=tmp_path / "space.toml")
    given = ({**BASE, "epochs": 1},)
    found = tune(folder / "rows.jsonl", tmp_path / "run", asked, model=folder / "start", given=given)
    assert {(one.state, one.values["options.stride"]) for one in found.trials} == {("complete", 4), ("fail", 0)}
    assert load_recipe(str(found.recipe), "finetune")["options"] == {"stride": 4}


def test_rows_left_out_are_listed_beside_the_search(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text((folder / "rows.jsonl").read_text() + '{"text": "", "label": "good"}\n')
    (tmp_path / "out").mkdir()
    given = ({**BASE, "epochs": 1, "data": {"skip_bad": True}},)
    asked = TuneSettings(trials=1, space=folder / "space.toml")
    tune(tmp_path / "rows.jsonl", tmp_path / "out/run", asked, model=folder / "start", given=given)
    assert (tmp_path / "out/run.rejects").is_file()
    assert not list(tmp_path.glob("*.rejects"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a =", "cannot be read"),
        ("", "empty"),
        ("batch_sise = [1]", "did you mean 'batch_size'"),
        ("lr = [1]", "did you mean 'optim.lr'"),
        ("batch_size = 8", "neither a range nor a list"),
        ("batch_size = []", "neither a range nor a list"),
        ("batch_size = {low = 1}", "high"),
        ("batch_size = {low = 16, high = 8}", "low 16 is above high 8"),
        ("batch_size = {low = 0, high = 8, log = true}", "above 0"),
        ("batch_size = {low = 1, high = 2, step = 3}", "unknown setting 'step'"),
    ],
)
def test_a_wrong_space_is_refused(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(UsageError, match=match):
        read_space(tmp_path / "space.toml")


def test_what_all_trials_have_is_told_once(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "unmask"):
        search(folder, tmp_path / "told", 2, epochs=1)
    assert sum(line.startswith("task: ") for line in caplog.messages) == 1
    assert sum(line.startswith("trial 1: ") for line in caplog.messages) == 2, "its values and its end"


def test_spaces() -> None:
    space = default_space(FinetuneSettings())
    low, high = space["optim.lr"].low, space["optim.lr"].high
    assert low < FinetuneSettings().optim.lr < high
    assert space["epochs"] == Range(low=2, high=10)
    assert default_space(FinetuneSettings(), without=["epochs", "seed"]).keys() == space.keys() - {"epochs"}
    assert nested({"a": 1, "b.c": 2, "b.d.e": 3}) == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}


def test_without_optuna_it_says_how_to_get_it(folder: Path, monkeypatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "optuna", None)
    with pytest.raises(SystemExit) as caught:
        main(["tune", str(folder / "rows.jsonl"), "--trials", "1"])
    assert caught.value.code == 2
    assert "pip install 'unmask[tune]'" in capfd.readouterr().err
