"""Suites: every definition resolves, a small one runs, goes on where it ended, and reports what it did."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main
from unmask.config import resolve
from unmask.errors import ArtefactError, InterruptedRunError, ResourceError, UsageError
from unmask.study.suites import HEAD, Suite, load_suite, run_suite, suite_names, table_of
from unmask.tasks import TASKS
from unmask.train.folds import train_seeds
from unmask.train.job import Job
from unmask.train.settings import FinetuneSettings
from unmask.train.summary import Summary


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    lines = [f"{row['text']}\t{row['label']}" for row in tiny.rows_of(tiny.classifier())]
    for name in ("one", "two"):
        (folder / name).mkdir()
        for part in ("train", "dev"):
            (folder / name / f"{part}.tsv").write_text("\n".join(["text\tlabel", *lines * 2]) + "\n")
    (folder / "mine.toml").write_text(
        'about = "two of <three>"\n[settings]\nepochs = 1\nmodel = { hidden_size = 32, num_hidden_layers = 1, '
        "num_attention_heads = 2, intermediate_size = 64, max_length = 32 }\n"
        'machine = { threads = 1, dtype = "float32" }\n'
        '[tasks.one]\ntrain = "one/train.tsv"\ndev = "one/dev.tsv"\nmetric = "macro_f1"\n'
        'targets = { "a paper" = 0.9 }\n'
        '[tasks.two]\ntrain = "two/train.tsv"\ndev = "two/dev.tsv"\nsettings = { epochs = 2 }\n'
        '[tasks.three]\ntrain = "three/train.tsv"\ndev = "three/dev.tsv"\n'
    )
    return folder


@pytest.mark.parametrize("name", suite_names())
def test_every_task_of_a_suite_resolves(name: str) -> None:
    suite = load_suite(name)
    for task in suite.tasks.values():
        resolve(FinetuneSettings, suite.settings, task.settings, place=name)
        assert task.task in TASKS
        assert all(0 < target < 1 for target in task.targets.values())


def test_a_suite_runs_reports_and_goes_on(data: Path, tmp_path: Path) -> None:
    suite = load_suite(str(data / "mine.toml"))
    outcomes = run_suite(suite, data, tmp_path, model=None, seeds=(0, 1))
    assert [one.name for one in outcomes] == ["one", "two", "three"]
    assert [len(one.scores) for one in outcomes] == [2, 2, 0]
    assert outcomes[0].metric == "macro_f1"
    assert outcomes[1].metric == "accuracy"
    assert outcomes[2].missing == "no file three/train.tsv"
    assert (tmp_path / "two" / "seed-1" / "model" / "config.json").is_file()
    rows = table_of(outcomes)
    assert rows[0][-1] == "a paper 0.900"
    assert rows[-1][0] == "mean"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "two of &lt;three&gt;" in page
    stored = json.loads((tmp_path / "results.json").read_text("utf-8"))["outcomes"]
    assert [one["scores"] for one in stored] == [list(one.scores) for one in outcomes]
    against = run_suite(suite, data, tmp_path, model=None, seeds=(0, 1), against=tmp_path)[1].against
    assert against == (outcomes[1].median, 1.0), "a model does not differ from itself"
    events = (tmp_path / "one" / "seed-0" / "events.jsonl").read_bytes()
    again = run_suite(suite, data, tmp_path, model=None, seeds=(0, 1))
    assert [one.scores for one in again] == [one.scores for one in outcomes]
    assert (tmp_path / "one" / "seed-0" / "events.jsonl").read_bytes() == events


def test_a_bad_set_does_not_end_the_others_and_one_alone_keeps_the_rows_of_all(data: Path, tmp_path: Path) -> None:
    suite = load_suite(str(data / "mine.toml"))
    broken = suite.tasks["two"].model_copy(update={"train": "mine.toml"})
    mixed = suite.model_copy(update={"tasks": {"two": broken, "one": suite.tasks["one"]}})
    outcomes = run_suite(mixed, data, tmp_path, model=None)
    assert (outcomes[0].missing or "").startswith("failed: ")
    assert outcomes[1].scores
    run_suite(mixed, data, tmp_path, model=None, only=("two",))
    stored = json.loads((tmp_path / "results.json").read_text("utf-8"))["outcomes"]
    assert [one["name"] for one in stored] == ["two", "one"]
    assert stored[1]["scores"] == list(outcomes[1].scores)


def ending(error: Exception) -> Callable[..., Summary]:
    """What `train_seeds` does when the first set ends in an error."""

    def train(job: Job, settings: FinetuneSettings, output: Path, seeds: Sequence[int], **options: bool) -> Summary:
        if output.name == "one":
            raise error
        return train_seeds(job, settings, output, seeds, **options)

    return train


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("missing-extra", "a package is missing"), "failed: a package is missing"),
        (ResourceError("no-memory", "too little"), "failed: too little"),
        (RuntimeError("CUDA out of memory. Tried to"), "failed: CUDA out of memory. Tried to"),
        (PermissionError(13, "Permission denied", "a/file"), "failed: [Errno 13] Permission denied: 'a/file'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_error_of_a_set_ends_the_others_but_an_interruption(
    error: Exception, told: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(str(data / "mine.toml"))
    monkeypatch.setattr("unmask.study.suites.train_seeds", ending(error))
    outcomes = run_suite(suite, data, tmp_path, model=None)
    assert outcomes[0].missing == told
    assert outcomes[1].scores
    monkeypatch.setattr("unmask.study.suites.train_seeds", ending(InterruptedRunError(2, "nothing")))
    with pytest.raises(InterruptedRunError):
        run_suite(suite, data, tmp_path, model=None, only=("one",))
    monkeypatch.setattr("unmask.study.suites.train_seeds", ending(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run_suite(suite, data, tmp_path, model=None, only=("one",))


def test_the_command_says_at_its_end_that_a_set_failed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unmask.study.suites.train_seeds", ending(ResourceError("no-memory", "too little")))
    with pytest.raises(SystemExit) as ended:
        main(["suite", str(data / "mine.toml"), str(data), "--output", str(tmp_path / "out")])
    assert ended.value.code == 3
    told = capsys.readouterr()
    assert "failed: too little" in told.out
    assert "sets-failed" in told.err
    assert "value: one" in told.err


def test_what_is_wrong_for_all_sets_is_told_before_one_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(str(data / "mine.toml"))
    monkeypatch.setattr("unmask.study.suites.train_seeds", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UsageError, match="no finished run of this set with the score 'macro_f1'"):
        run_suite(suite, data, tmp_path, model=None, against=tmp_path / "nothing")
    other = tmp_path / "other"
    for name, metric in (("one", "macro_f1"), ("two", "accuracy")):
        (other / name).mkdir(parents=True)
        (other / name / "summary.json").write_text(json.dumps({"metric": metric}))
    with pytest.raises(UsageError, match="with the score 'mcc'"):
        run_suite(suite, data, tmp_path, model=None, given=({"metric": "mcc"},), against=other)
    with pytest.raises(UsageError, match="seed is named twice"):
        run_suite(suite, data, tmp_path, model=None, seeds=(1, 1))
    with pytest.raises(UsageError, match="unknown setting 'epoch'"):
        run_suite(suite, data, tmp_path, model=None, given=({"epoch": 1},))
    with pytest.raises(ArtefactError, match="no such model folder"):
        run_suite(suite, data, tmp_path, model="nothing")


def test_a_set_that_cannot_be_compared_keeps_its_scores(data: Path, tmp_path: Path) -> None:
    suite = load_suite(str(data / "mine.toml"))
    run_suite(suite, data, tmp_path / "other", model=None, only=("two",))
    for answers in (tmp_path / "other" / "two").glob("seed-*/dev-predictions.jsonl"):
        lines = answers.read_text().splitlines()
        answers.write_text("\n".join([*lines, *lines]))
    (found,) = run_suite(suite, data, tmp_path / "mine", model=None, only=("two",), against=tmp_path / "other")
    assert found.scores
    assert found.against == f"{2 * len(lines)} dev rows there, {len(lines)} here"
    stored = json.loads((tmp_path / "mine" / "results.json").read_text("utf-8"))["outcomes"]
    assert stored[0]["against"] == found.against
    assert found.against in table_of([found])[0]


@pytest.mark.parametrize("only", [["one"], ["one,two"], ["one", "--only", "two"]])
def test_the_command_takes_some_tasks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], only: list[str]
) -> None:
    words = ["suite", str(data / "mine.toml"), str(data), "--output", str(tmp_path), "--seeds", "3", "--only", *only]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == list(HEAD)
    names = [line.split()[0] for line in told[1:-1]]
    assert names == (["one"] if only == ["one"] else ["one", "two", "mean"]), "one task has no mean"


def test_what_is_wrong_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suite 'glu'"):
        load_suite("glu")
    bad = tmp_path / "bad.toml"
    bad.write_text('about = "x"\n[tasks.one]\ntrain = "a"\ndev = "b"\nmetrik = "c"\n')
    with pytest.raises(UsageError, match=r"unknown setting 'tasks\.one\.metrik'"):
        load_suite(str(bad))
    suite = Suite(about="x", tasks={})
    with pytest.raises(UsageError, match="no task 'four'"):
        run_suite(suite, data, tmp_path, model=None, only=("four",))
