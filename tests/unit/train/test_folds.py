"""Several seeds and several folds: what is dealt, trained, skipped, kept and said."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from unmask import Predictor, storage
from unmask.cli import main
from unmask.data.dealing import deal
from unmask.errors import NumericError, UsageError
from unmask.tasks.classification import Classification
from unmask.train import folds
from unmask.train.finetune import FinetuneResult
from unmask.train.folds import cross_validate, train_seeds
from unmask.train.job import Job, read_job
from unmask.train.settings import FinetuneSettings
from unmask.train.summary import Summary

BASE: dict[str, Any] = {
    "epochs": 3,
    "log_every": 1,
    "optim": {"lr": 3e-3},
    "machine": {"device": "cpu", "dtype": "float32", "threads": 1},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    texts = [(f"{text} {n}", label) for n in range(4) for text, label in _labelled()]
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    return path


def _labelled() -> list[tuple[str, str]]:
    return [(text, "good") for text in tiny.GOOD] + [(text, "bad") for text in tiny.BAD]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved(tiny.masked_lm(), tmp_path_factory.mktemp("start") / "model")


def seeds_of(
    rows: Path, start: Path, output: Path, seeds: list[int], restart: bool = False, **settings: Any
) -> Summary:
    job, chosen = read_job(rows, model=start, given=(BASE, settings))
    return train_seeds(job, chosen, output, seeds, restart_collapsed=restart)


def test_of_several_seeds_the_one_with_the_least_error_is_kept(tmp_path: Path, start: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    lines = [{"text": f"{text} {n}", "label": at + n / 20} for n in range(8) for at, text in enumerate(tiny.GOOD)]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    summary = seeds_of(path, start, tmp_path / "runs", [0, 1, 2], metric="mae", epochs=1)
    errors = {one.name: one.score for one in summary.runs}
    assert len(set(errors.values())) == 3
    assert errors[summary.best] == min(errors.values())


def folds_of(rows: Path, start: Path, output: Path, num_folds: int, keep: Any = "all") -> Summary:
    job, chosen = read_job(rows, model=start, given=(BASE,), is_split=False)
    return cross_validate(job, chosen, output, num_folds, keep=keep)


def fitted_in(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((run / "model/unmask.json").read_text())["meta"]["task"]["settings"]
    return settings


def told_of(scores: list[float]) -> tuple[float, ...]:
    """Numbers of the page's row."""
    return statistics.median(scores), min(scores), max(scores), statistics.fmean(scores), statistics.stdev(scores)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@given(st.lists(st.sampled_from("aab"), min_size=5, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_folds_part_the_rows_evenly_in_each_stratum(strata: list[str], num_folds: int, seed: int) -> None:
    folds = deal(strata, num_folds, seed=seed)
    assert sorted(row for fold in folds for row in fold) == list(range(len(strata)))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for name in set(strata):
        counts = [sum(strata[row] == name for row in fold) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert folds == deal(strata, num_folds, seed=seed)


def test_groups_are_not_parted_and_the_seed_decides() -> None:
    strata, groups = ["x"] * 60, [None if row % 5 == 0 else row // 3 for row in range(60)]
    folds = deal(strata, 4, seed=1, groups=groups)
    for group in set(groups) - {None}:
        assert sum(any(groups[row] == group for row in fold) for fold in folds) == 1
    assert sorted(row for fold in folds for row in fold) == list(range(60))
    assert folds != deal(strata, 4, seed=2, groups=groups)


def test_seeds_share_their_dev_rows_and_the_best_model_is_kept(rows: Path, start: Path, tmp_path: Path) -> None:
    summary = seeds_of(rows, start, tmp_path / "run", [3, 1])
    assert [one.name for one in summary.runs] == ["seed-3", "seed-1"]
    scores = [one.score for one in summary.runs]
    assert summary.median == statistics.median(scores)
    assert (summary.low, summary.high) == (min(scores), max(scores))
    assert summary.sd == pytest.approx(statistics.stdev(scores))
    assert max(summary.runs, key=lambda one: one.score).score == next(
        one.score for one in summary.runs if one.name == summary.kept
    )
    kept = [(tmp_path / "run" / name / "model.safetensors").read_bytes() for name in (f"{summary.kept}/model", "model")]
    assert kept[0] == kept[1]
    storage.verify(tmp_path / "run/model")
    asked = [[one["line"] for one in lines_of(tmp_path / f"run/seed-{seed}/dev-predictions.jsonl")] for seed in (3, 1)]
    assert asked[0] == asked[1]
    assert json.loads((tmp_path / "run/summary.json").read_text())["median"] == summary.median
    page = (tmp_path / "run/report.html").read_text()
    assert re.search(r"<td>accuracy</td>" + "".join(rf"<td>{value:.4g}</td>" for value in told_of(scores)), page)
    assert not [*tmp_path.glob("run/**/checkpoints")], "they are several times as large as the models"
    before = (tmp_path / "run/seed-1/events.jsonl").read_bytes()
    more = seeds_of(rows, start, tmp_path / "run", [3, 1, 2])
    assert (tmp_path / "run/seed-1/events.jsonl").read_bytes() == before, "a finished run is not repeated"
    assert [one.score for one in more.runs[:2]] == scores


def test_a_collapsed_seed_is_counted_and_replaced_a_few_times(rows: Path, start: Path, tmp_path: Path) -> None:
    settings = {"epochs": 1, "optim": {"lr": 1e-9}}
    summary = seeds_of(rows, start, tmp_path / "run", [5], restart=True, **settings)
    assert [one.name for one in summary.runs] == ["seed-5", "seed-1005", "seed-2005", "seed-3005"]
    assert [one.is_replaced for one in summary.runs] == [True, True, True, False]
    assert summary.num_collapsed == 4
    assert "4 collapsed" in summary.to_lines()[-1]
    page = (tmp_path / "run/report.html").read_text()
    assert page.count("<circle") == page.count("#dc2626") == page.count("<td>collapsed: ") == 4
    assert page.count("replaced by the next") == 3
    assert '<a href="seed-3005/report.html">' in page
    good = seeds_of(rows, start, tmp_path / "good", [5], restart=True, epochs=8, patience=8, batch_size=2)
    assert (good.num_collapsed, len(good.runs)) == (0, 1)
    again = seeds_of(rows, start, tmp_path / "run", [5], **settings)
    assert (again.num_collapsed, len(again.runs)) == (1, 1)


def test_no_seed_is_taken_twice(rows: Path, start: Path, tmp_path: Path) -> None:
    settings = {"epochs": 1, "optim": {"lr": 1e-9}, "batch_size": 32}
    summary = seeds_of(rows, start, tmp_path / "run", [0, 1000], restart=True, **settings)
    assert [one.seed for one in summary.runs] == [0, 2000, 3000, 4000, 1000, 5000, 6000, 7000]


def test_a_seed_whose_loss_is_not_finite_counts_as_collapsed(
    rows: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = folds.run_job

    def wild(job: Job, settings: FinetuneSettings, output: Path) -> FinetuneResult:
        optim = settings.optim.model_copy(update={"lr": 1e30, "max_grad_norm": 0.0} if settings.seed == 1 else {})
        return train(job, settings.model_copy(update={"optim": optim}), output)

    monkeypatch.setattr(folds, "run_job", wild)
    settings = {"epochs": 8, "patience": 8, "batch_size": 2}
    summary = seeds_of(rows, start, tmp_path / "run", [1, 5], **settings)
    assert "loss nan" in str(summary.runs[0].collapsed)
    assert (summary.num_collapsed, summary.best, summary.median) == (1, "seed-5", summary.runs[1].score)
    assert "of 1 seeds" in summary.to_lines()[-1]
    assert json.loads((tmp_path / "run/summary.json").read_text())["runs"][0]["score"] is None
    more = seeds_of(rows, start, tmp_path / "run", [1], restart=True, **settings)
    assert [(one.seed, one.is_replaced) for one in more.runs] == [(1, True), (1001, False)]
    with pytest.raises(NumericError):
        seeds_of(rows, start, tmp_path / "run", [1], **settings)


def test_folds_predict_each_row_once_by_a_model_that_has_not_seen_it(rows: Path, start: Path, tmp_path: Path) -> None:
    summary = folds_of(rows, start, tmp_path / "run", 3)
    records = lines_of(tmp_path / "run/dev-predictions.jsonl")
    assert [one["row"] for one in records] == list(range(32))
    assert [one["line"] for one in records] == list(range(1, 33))
    for number in range(1, 4):
        fold = [one for one in records if one["fold"] == number]
        assert len(fold) in (10, 11)
        right = statistics.fmean(one["score"] for one in fold)
        assert right == pytest.approx(summary.runs[number - 1].score)
        alone = Predictor.load(tmp_path / f"run/fold-{number}/model")
        texts = [lines_of(rows)[one["row"]]["text"] for one in fold]
        assert [one.label for one in alone(texts)] == [one["prediction"]["label"] for one in fold]
    assert summary.mean == pytest.approx(statistics.fmean(one.score for one in summary.runs))
    final = [line for line in lines_of(tmp_path / "run/final/events.jsonl") if line["event"] == "final"][-1]
    median = round(statistics.median(one.best_epoch for one in summary.runs))
    assert final["best_epoch"] == median
    assert final["scores"]["accuracy"] == pytest.approx(summary.mean)
    assert summary.kept == "final"
    heats = [fitted_in(tmp_path / f"run/fold-{number}")["temperature"] for number in range(1, 4)]
    assert len(set(heats)) == 3
    assert fitted_in(tmp_path / "run/final")["temperature"] == fitted_in(tmp_path / "run")["temperature"]
    assert fitted_in(tmp_path / "run")["temperature"] == pytest.approx(statistics.median(heats))
    assert final["scores"].keys() & {"temperature", "calibration_error_before"} == set()
    assert "Means over the folds" in (tmp_path / "run/model/README.md").read_text()
    assert len(Predictor.load(tmp_path / "run/model")(["a joy"])) == 1
    assert not [*tmp_path.glob("**/checkpoints")]


def test_thresholds_are_medians_class_by_class(tmp_path: Path) -> None:
    options = Classification.settings_class(
        labels=["a", "b"], multi_label=True, text_column="text", fit_thresholds="each"
    )
    for number, pair in enumerate([[0.1, 0.9], [0.2, 0.3], [0.6, 0.5]]):
        settings = options.model_dump(mode="json") | {"thresholds": pair}
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/unmask.json").write_text(json.dumps({"meta": {"task": {"settings": settings}}}))
    found = folds.with_medians(options, [tmp_path / f"{number}" for number in range(3)])
    assert found == options.model_copy(update={"thresholds": (0.2, 0.5)})


def questions_file(path: Path, answered: list[list[bool]]) -> Path:
    """SQuAD 2.0 with one text for each list, and a question for each answer."""
    texts = [
        {
            "context": f"Text {at} is red and long.",
            "qas": [
                {
                    "id": f"{at}-{n}",
                    "question": f"What is text {n}?",
                    "is_impossible": not has,
                    "answers": [{"text": "red", "answer_start": 10}] if has else [],
                }
                for n, has in enumerate(some)
            ],
        }
        for at, some in enumerate(answered)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": texts}]}))
    return path


def test_a_score_that_one_fold_alone_has_is_its_mean(start: Path, tmp_path: Path) -> None:
    file = questions_file(tmp_path / "q.json", [[True, False], [True, True]])
    folds_of(file, start, tmp_path / "run", 2)
    final = [line for line in lines_of(tmp_path / "run/final/events.jsonl") if line["event"] == "final"][-1]
    folds = json.loads((tmp_path / "run/summary.json").read_text())["runs"]
    known = [one["scores"]["no_answer_f1"] for one in folds if "no_answer_f1" in one["scores"]]
    assert len(known) == 1
    assert final["scores"]["no_answer_f1"] == known[0]


def test_rows_of_one_group_count_once_against_the_folds(start: Path, tmp_path: Path) -> None:
    file = questions_file(tmp_path / "q.json", [[True, False], [True, True]])
    with pytest.raises(UsageError, match="3 folds of 4 rows"):
        folds_of(file, start, tmp_path / "run", 3)
    assert not (tmp_path / "run").exists()


def test_the_best_fold_may_be_kept(rows: Path, start: Path, tmp_path: Path) -> None:
    summary = folds_of(rows, start, tmp_path / "run", 2, keep="best")
    assert summary.kept == summary.best
    assert not (tmp_path / "run/final").exists()


def test_what_does_not_go_together_is_refused(rows: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        seeds_of(rows, start, tmp_path / "run", [1, 1])
    with pytest.raises(UsageError, match="99 folds of 32 rows"):
        folds_of(rows, start, tmp_path / "run", 99)
    job, chosen = read_job(rows, dev=rows, model=start, given=(BASE,), is_split=False)
    with pytest.raises(UsageError, match="dev file"):
        cross_validate(job, chosen, tmp_path / "run", 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a run over seeds"):
        seeds_of(rows, start, tmp_path / "other", [1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "1;2"], "seeds = '1;2'"),
        (["--seeds", "1", "--folds", "2"], "over seeds or over folds"),
        (["--restart-collapsed"], "needs --seeds"),
        (["--restart-collapsed", "--folds", "2"], "needs --seeds"),
        (["--keep", "best"], "needs --folds"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    words: list[str], said: str, rows: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["finetune", str(rows), *words])
    assert caught.value.code == 2
    assert said in capfd.readouterr().err
