"""report.html of a run: one file that needs nothing else, with curves, scores, settings and the worst errors."""

import html
import math
from collections.abc import Sequence
from typing import Any

from unmask import storage
from unmask.tasks.base import Mistake
from unmask.train.run import Run

_SHOWN = 20

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } .scroll { overflow-x: auto }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
svg, pre { background: #fafafa; border: 1px solid #ddd } svg { width: 100%; height: auto }
pre { padding: 1rem; overflow-x: auto } figure { margin: 0 } figcaption { margin-bottom: .3rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.2rem }
"""


def write_report(run: Run, title: str, scores: dict[str, Any], mistakes: Sequence[Mistake] = ()) -> None:
    """Write `RUN/report.html`.

    Args:
        run: whose events are drawn.
        title: first words of the page.
        scores: final metrics; a confusion matrix and per-class scores become tables.
        mistakes: the wrong answers; the most certain ones are shown.
    """
    steps, evaluations = run.events("step"), run.events("evaluation")
    metric = next((name for name in ("loss", "accuracy") if evaluations and name in evaluations[0]), None)
    parts = [f"<h1>{html.escape(title)}: {html.escape(run.folder.resolve().name)}</h1>"]
    numbers: dict[str, float | str] = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    if "interval" in scores:
        numbers["accuracy, 95 % interval"] = " to ".join(f"{edge:.4f}" for edge in scores["interval"])
    if numbers:
        parts += ["<h2>Scores</h2>", _table([], [[name, _number(value)] for name, value in numbers.items()])]
    if "per_class" in scores:
        parts += ["<h2>Classes</h2>", _classes(scores["per_class"])]
    if "confusion" in scores and len(scores["labels"]) <= 30:
        parts += ["<h2>Confusion (rows: label, columns: answer)</h2>", _confusion(scores)]
    if mistakes:
        worst = sorted(mistakes, key=lambda one: -one.score)[:_SHOWN]
        rows = [[one.text[:300], one.label, one.answer, _number(one.score)] for one in worst]
        parts += ["<h2>Most certain errors</h2>", _table(["text", "label", "answer", "score"], rows)]
    curves = [
        f"<figure><figcaption>{heading}</figcaption>{_curve([(one['step'], one[key]) for one in series])}</figure>"
        for heading, series, key in (
            ("Training loss", steps, "loss"),
            (f"Evaluation: {metric}", evaluations, metric),
            ("Evaluation: bits per byte", evaluations, "bits_per_byte"),
            ("Learning rate", steps, "lr"),
            ("Gradient norm", steps, "grad_norm"),
            ("Tokens a second", steps, "tokens_per_second"),
        )
        if key and len(series) > 1 and key in series[-1]
    ]
    parts += ["<h2>Curves</h2>", f"<div class=grid>{''.join(curves)}</div>"] if curves else []
    marks = [[str(event["step"]), _number(event["loss"]), event["verdict"]] for event in run.events("spike")] + [
        [str(event["step"]), "", f"back to the weights of {event['to']}"] for event in run.events("rollback")
    ]
    if marks:
        parts += ["<h2>Spikes of the loss</h2>", _table(["step", "loss", "what was done"], marks)]
    parts += ["<h2>Data and machine</h2>", _table([], _notes(run))]
    settings = (run.folder / "config.toml").read_text("utf-8")
    parts += ["<h2>Settings</h2>", f"<pre>{html.escape(settings)}</pre>"]
    page = "<!doctype html><html lang=en><meta charset=utf-8>"
    page += f"<title>{html.escape(title)}</title><style>{_STYLE}</style>" + "\n".join(parts) + "</html>\n"
    storage.write_text(run.folder / "report.html", page)


def _notes(run: Run) -> list[list[str]]:
    """Fingerprints of what was read, and where it was computed."""
    files = (run.folder / name for name in ("inputs.json", "machine.json"))
    known = [item for file in files if file.is_file() for item in storage.read_json(file).items()]
    return [[name, str(value).replace("+", " + ")] for name, value in known]


def _curve(points: list[tuple[float, float]], width: int = 480, height: int = 200, margin: int = 72) -> str:
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 2:
        return "<p>too few finite values to draw</p>"
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    span, reach = (high - low) or 1.0, (max(xs) - min(xs)) or 1.0
    placed = [
        (margin + (x - min(xs)) / reach * (width - margin - 12), 12 + (high - y) / span * (height - 36))
        for x, y in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    texts = [
        f"<text x=4 y={y} font-size=12>{_number(value)}</text>" for y, value in ((18, high), (height - 24, low))
    ] + [
        f"<text x={margin} y={height - 6} font-size=12>step {min(xs):g}</text>",
        f"<text x={width - 12} y={height - 6} font-size=12 text-anchor=end>{max(xs):g}</text>",
    ]
    return (
        f'<svg viewBox="0 0 {width} {height}" role=img>'
        f'<polyline points="{line}" fill=none stroke="#2457a8" stroke-width=1.5 />{"".join(texts)}</svg>'
    )


def _classes(scores: dict[str, dict[str, float]]) -> str:
    rows = [
        [name, _number(one["precision"]), _number(one["recall"]), _number(one["f1"]), str(one["rows"])]
        for name, one in scores.items()
    ]
    return _table(["class", "precision", "recall", "F1", "rows"], rows)


def _confusion(scores: dict[str, Any]) -> str:
    rows = [[name, *map(str, counts)] for name, counts in zip(scores["labels"], scores["confusion"], strict=True)]
    return _table(["", *scores["labels"]], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table>{top}{body}</table></div>"


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 10_000 else f"{value:.4g}"
