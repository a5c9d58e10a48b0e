"""The page and the card of a run: everything is in them, and nothing from the data is markup."""

import html.parser
from pathlib import Path

import pytest

from tests import tiny
from unmask.tasks.base import Mark, Mistake
from unmask.train.answers import Answers, Group
from unmask.train.finish import write_model
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.settings import FinetuneSettings

SCORES = {
    "accuracy": 0.75,
    "interval": (0.5, 1.0),
    "per_class": {"<i>bad</i>": {"precision": 1.0, "recall": 0.5, "f1": 0.667, "rows": 2}},
    "confusion": [[1, 1], [0, 2]],
    "labels": ["<i>bad</i>", "good"],
}
MARKS = (Mark(0, 8, "<b>", True), Mark(0, 8, "<b>", False), Mark(8, 12, "answer", False))
ERROR = Mistake("<script>alert(1)</script>", "<i>bad</i>", "good", 0.98, MARKS)
GROUPS = [Group(0.0, 0.5, 4, 0.3, 0.25), Group(0.5, 1.0, 4, 0.8, 0.75)]
ANSWERS = Answers([ERROR], 7, GROUPS, GROUPS)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def run(tmp_path: Path):
    with Run.open(tmp_path / "run", FinetuneSettings(), {"file": "<b>"}) as one:
        for step, loss in ((1, 0.9), (2, float("nan")), (3, 0.1)):
            one.log(
                "step", step=step, loss=loss, lr=1e-4, grad_norm=1.0, tokens_per_second=100.0, num_tokens=5, seconds=0.5
            )
        for step, accuracy in ((1, 0.75), (3, 0.5)):
            one.log("evaluation", step=step, accuracy=accuracy)
        one.log("final", step=3, best_step=1, scores=SCORES)
        yield one


def test_the_page_shows_scores_and_escapes_data(run: Run) -> None:
    write_report(run, "Fine-tuning", SCORES, ANSWERS)
    page = Tags()
    page.feed((run.folder / "report.html").read_text("utf-8"))
    assert not {"script", "i", "b"} & set(page.tags)
    assert page.tags.count("svg") == 6
    for word in ("0.75", "0.5000 to 1.0000", "<script>", "<i>bad</i>", "0.98", "1 of 7 wrong"):
        assert any(word in text for text in page.words), word
    assert page.tags.count("mark") == 5, "three of them in the legend"
    assert "rgba(22,163,74,0.38)" in (run.folder / "report.html").read_text("utf-8"), "half of a row is right"


def test_the_card_names_the_machine_of_the_run(run: Run) -> None:
    (run.folder / "machine.json").write_text('{"name": "A card", "dtype": "bfloat16", "threads": 1}')
    write_model(run, tiny.classifier(), FinetuneSettings(), {})
    assert "likewise: 1s on A card (" in (run.model / "README.md").read_text("utf-8")


def test_the_card_says_what_was_trained_and_how_well(run: Run) -> None:
    write_model(run, tiny.classifier(), FinetuneSettings(seed=4), {"rows.csv": "0123abc"})
    card = (run.model / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: unmask\npipeline_tag: text-classification\n")
    for text in (
        "* accuracy: 0.7500",
        "* rows.csv: 0123abc",
        "* optimizer steps: 3, kept: 1",
        '"seed": 4',
        "2 layers, width 32",
    ):
        assert text in card, text


def test_page_and_card_say_that_no_row_is_scored_with_what_was_fitted_on_it(run: Run) -> None:
    run.log("final", step=3, best_step=1, scores=SCORES, scored_on="dev", fitted=["temperature", "thresholds"])
    write_report(run, "Fine-tuning", SCORES)
    write_model(run, tiny.classifier(), FinetuneSettings(), {})
    told = "the temperature and thresholds that answers each fifth of them was fitted on the other four fifths:"
    for file in (run.folder / "report.html", run.model / "README.md"):
        assert told in file.read_text("utf-8"), file


def test_the_page_names_inputs_and_what_was_done_about_spikes(run: Run) -> None:
    run.log("spike", step=2, loss=88.5, verdict="roll back")
    run.log("rollback", step=2, to="step-000000001")
    for step in (1, 3):
        run.log("evaluation", step=step, loss=7.0 - step, bits_per_byte=2.0)
    write_report(run, "Pre-training", {"nats_per_token": 4.0})
    page = (run.folder / "report.html").read_text("utf-8")
    for word in ("88.5", "roll back", "back to the weights of step-000000001", "&lt;b&gt;", "bits per byte"):
        assert word in page, word
