"""report.html of a run: scores, classes, answers, curves, data and settings."""

from collections.abc import Iterator
from typing import Any

from unmask import pages, storage
from unmask.tasks.base import Mistake
from unmask.train.answers import Answers
from unmask.train.card import scored_on
from unmask.train.run import MACHINE, Run

_NO_SCORES = ("kind", "event", "time", "step", "epoch")
_MOST_SCORES = 4
_MOST_CLASSES = 30
_MOST_CHARACTERS = 300
_LEGEND = ("right, missed, wrong", ((0, 5, "", "both"), (7, 13, "", "gold"), (15, 20, "", "answer")))


def write_report(run: Run, title: str, scores: dict[str, Any], answers: Answers | None = None) -> None:
    """Write `RUN/report.html`.

    Args:
        run: whose events are drawn.
        title: first words of the page.
        scores: final metrics; an interval, a confusion matrix and per-class scores become rows and tables.
        answers: a look at the answers on the dev rows.
    """
    settings = (run.folder / "config.toml").read_text("utf-8")
    heading = f"{title}: {run.folder.resolve().name}"
    parts = [
        f"<h1>{pages.escaped(heading)}</h1>",
        *_scores(run, scores),
        *_classes(scores),
        *_precisions(run),
        *(_answers(answers) if answers is not None else ()),
        *_curves(run),
        *_spikes(run),
        "<h2>Data and machine</h2>",
        pages.table(_notes(run), is_text=True),
        "<h2>Settings</h2>",
        f"<pre>{pages.escaped(settings)}</pre>",
    ]
    storage.write_text(run.folder / "report.html", pages.page(heading, parts))


def _scores(run: Run, scores: dict[str, Any]) -> Iterator[str]:
    rows: list[tuple[str, str | float]] = [
        (name, value) for name, value in scores.items() if isinstance(value, int | float)
    ]
    if "interval" in scores:
        rows.append(("95 % interval", " to ".join(f"{edge:.4f}" for edge in scores["interval"])))
    if rows:
        yield "<h2>Scores</h2>"
        yield from (f"<p>{pages.escaped(scored_on(final))}</p>" for final in run.events("final")[-1:])
        yield pages.table(rows)


def _precisions(run: Run) -> Iterator[str]:
    """What lower precisions lose on the dev rows."""
    measured = [one for final in run.events("final")[-1:] for one in final.get("precisions", {}).values()]
    rows = [
        (
            one["precision"],
            one["score"],
            one["exact_score"],
            f"{one['drop']:.2f} of {one['max_drop']:g}",
            "" if one["agreement"] is None else f"{one['agreement']:.2%}",
            "certified" if one["is_passed"] else "not certified",
        )
        for one in measured
    ]
    if rows:
        yield "<h2>Lower precisions</h2>"
        yield f"<p>{pages.escaped(measured[0]['metric'])} on the dev rows, by the engine {measured[0]['engine']}:</p>"
        yield pages.table(rows, ("precision", "score", "exact", "lost", "same answers", ""))


def _classes(scores: dict[str, Any]) -> Iterator[str]:
    if "per_class" in scores:
        rows = [
            (name, one["precision"], one["recall"], one["f1"], f"{one['rows']:,}")
            for name, one in scores["per_class"].items()
        ]
        yield "<h2>Classes</h2>"
        yield pages.table(rows, ("class", "precision", "recall", "F1", "rows"))
    if "confusion" in scores and len(scores["labels"]) <= _MOST_CLASSES:
        yield "<h2>Confusion (rows: label, columns: answer)</h2>"
        yield pages.matrix(scores["labels"], scores["confusion"])


def _answers(found: Answers) -> Iterator[str]:
    if found.by_length:
        yield "<h2>By length</h2>"
        yield pages.bars(
            [
                (f"{one.low:.0f} to {one.high:.0f} tokens", one.score, f"{one.score:.3f} on {one.rows:,} rows")
                for one in found.by_length
            ]
        )
    if len(found.by_confidence) > 1:
        points = [(one.value, one.score) for one in found.by_confidence]
        rows = [(f"{one.low:.2f} to {one.high:.2f}", one.value, one.score, one.rows) for one in found.by_confidence]
        yield "<h2>Calibration</h2><p>How often answers of some confidence are right; the dashes are what it says.</p>"
        yield f"<div class=grid>{pages.curve(points, name='confidence', limits=(0.0, 1.0), is_diagonal=True)}"
        yield pages.table(rows, ("confidence", "mean", "right", "rows")) + "</div>"
    if found.mistakes:
        yield f"<h2>Worst answers ({len(found.mistakes)} of {found.num_mistakes:,} wrong ones)</h2>"
        if any(one.marks for one in found.mistakes):
            yield f"<p>Spans: {pages.marked(*_LEGEND)}</p>"
        yield pages.table(map(_mistake, found.mistakes), ("text", "label", "answer", "score"), is_text=True)


def _mistake(one: Mistake) -> tuple[str, str, str, float]:
    gold = {(mark.start, mark.end, mark.label) for mark in one.marks if mark.is_gold}
    given = {(mark.start, mark.end, mark.label) for mark in one.marks if not mark.is_gold}
    marks = [(*key, "both" if key in gold & given else "gold" if key in gold else "answer") for key in gold | given]
    text = pages.marked(one.text, sorted(marks)) if marks else one.text[:_MOST_CHARACTERS]
    return text, one.label[:_MOST_CHARACTERS], one.answer[:_MOST_CHARACTERS], one.score


def _curves(run: Run) -> Iterator[str]:
    steps, evaluations = run.events("step"), run.events("evaluation")
    judged = [name for name in (evaluations[0] if evaluations else {}) if name not in _NO_SCORES]
    drawn = [("Training loss", steps, "loss")]
    drawn += [(f"Evaluation: {name.replace('_', ' ')}", evaluations, name) for name in judged[:_MOST_SCORES]]
    drawn += [("Learning rate", steps, "lr"), ("Gradient norm", steps, "grad_norm")]
    drawn += [("Tokens a second", steps, "tokens_per_second")]
    figures = [
        f"<figure><figcaption>{pages.escaped(heading)}</figcaption>"
        f"{pages.curve([(one['step'], one[key]) for one in series])}</figure>"
        for heading, series, key in drawn
        if len(series) > 1 and key in series[-1]
    ]
    if figures:
        yield "<h2>Curves</h2>"
        yield f"<div class=grid>{''.join(figures)}</div>"


def _spikes(run: Run) -> Iterator[str]:
    marks = [(str(event["step"]), pages.number(event["loss"]), event["verdict"]) for event in run.events("spike")]
    marks += [(str(event["step"]), "", f"back to the weights of {event['to']}") for event in run.events("rollback")]
    if marks:
        yield "<h2>Spikes of the loss</h2>"
        yield pages.table(marks, ("step", "loss", "what was done"))


def _notes(run: Run) -> list[tuple[str, str]]:
    """What was read, its fingerprints, and where it was computed."""
    files = (run.folder / name for name in ("inputs.json", MACHINE))
    known = [item for final in run.events("final")[-1:] for item in final.get("data", {}).items()]
    known += [item for file in files if file.is_file() for item in storage.read_json(file).items()]
    return [(name, str(value).replace("+", " + ")) for name, value in known]
