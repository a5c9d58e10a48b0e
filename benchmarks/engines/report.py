"""Tables of what was measured, and how near the answers are to the expected ones."""

from typing import Any

import numpy as np

from . import OURS, PRECISIONS
from .workloads import WORKLOADS, texts_of

DEFAULT = "transformers:float32"
# Centred cosine below which the answers of a precision are wrong: such an engine counts as no peer.
NEAREST = {"float32": 0.9999, "bfloat16": 0.998, "int8": 0.95}


def closeness(logits: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """How near logits (N, C) are: the greatest `difference` of one, and the `cosine` of all together.

    `centred` is the cosine after taking away the mean over the texts, so that only what tells texts apart counts:
    the plain one of texts in a wrong order is still 0.96.
    """
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return {"difference": float("inf"), "cosine": 0.0, "centred": 0.0}
    given, wanted = logits.astype(float), expected.astype(float)
    return {
        "difference": float(np.abs(given - wanted).max()),
        "cosine": _cosine(given, wanted),
        "centred": _cosine(given - given.mean(0), wanted - wanted.mean(0)),
    }


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def speeds(name: str, found: dict[str, Any]) -> dict[str, float]:
    """Answers a second by order; median of the rounds, or for a latency of all single texts."""
    workload = WORKLOADS[name]
    count = 1 if workload.is_latency else workload.count
    return {order: count / float(np.median(rounds)) for order, rounds in found["seconds"].items()}


def is_right(engine: str, found: dict[str, Any]) -> bool:
    """Whether an engine was measured and gave the expected answers within its precision."""
    return "failure" not in found and found["closeness"]["centred"] >= NEAREST[engine.partition(":")[2]]


def show_workload(model: str, name: str, config: dict[str, Any], result: dict[str, Any]) -> None:
    """One table: a row an engine, then the product beside the best peer of each precision."""
    workload = WORKLOADS[name]
    tokens = sum(len(text) for text in texts_of(workload, config["vocab_size"]))
    found = result["workloads"][name]
    all_speeds = {one: speeds(name, measured) for one, measured in found.items() if "failure" not in measured}
    unit = "ms a text, one at a time" if workload.is_latency else "texts/s"
    heads = ("median", "95 %") if workload.is_latency else ("file order", "sorted")
    print(f"\n{model}, {name}: {workload.count} texts, {tokens:,} tokens; {unit}")
    print(f"{'':<27}{heads[0]:>11}{heads[1]:>9}{OURS + ' is':>11}{'max |dlogit|':>14}{'cosine':>10}{'centred':>10}")
    for engine, measured in found.items():
        if "failure" in measured:
            print(f"{engine:<27} failed: {measured['failure']}")
            continue
        ours = all_speeds.get(f"{OURS}:{engine.partition(':')[2]}")
        ratio = ""
        if ours is not None and not engine.startswith(OURS):
            ratio = f"{max(ours.values()) / max(all_speeds[engine].values()):.2f}x"
        near = measured["closeness"]
        print(
            f"{engine:<27}{_cells(workload.is_latency, measured, all_speeds[engine])}{ratio:>11}"
            f"{near['difference']:>14.1e}{near['cosine']:>10.5f}{near['centred']:>10.5f}"
            f"{'' if is_right(engine, measured) else '  WRONG'}"
        )
    for precision in PRECISIONS[OURS]:
        _show_best(precision, found, all_speeds)
    print(end="", flush=True)


def _cells(is_latency: bool, measured: dict[str, Any], speed: dict[str, float]) -> str:
    if is_latency:
        times = np.array(measured["seconds"]["file"]) * 1000
        return f"{np.median(times):>11.2f}{np.percentile(times, 95):>9.2f}"
    return f"{speed['file']:>11.1f}{speed.get('sorted', speed['file']):>9.1f}"


def _show_best(precision: str, found: dict[str, Any], all_speeds: dict[str, dict[str, float]]) -> None:
    ours = f"{OURS}:{precision}"
    if ours not in all_speeds:
        return
    speed = max(all_speeds[ours].values())
    peers = {
        (engine, order): value
        for engine, values in all_speeds.items()
        if engine != ours and engine.endswith(f":{precision}") and is_right(engine, found[engine])
        for order, value in values.items()
    }
    parts = []
    if peers:
        engine, order = max(peers, key=peers.__getitem__)
        what = f"{engine}, {order} order" if len(all_speeds[engine]) > 1 else engine
        parts.append(f"{speed / peers[engine, order]:.2f}x the best {precision} peer ({what})")
    if DEFAULT in all_speeds:
        parts.append(f"{speed / all_speeds[DEFAULT]['file']:.1f}x {DEFAULT} as users run it")
    print(f"=> {ours}: {'; '.join(parts)}")


def show_engines(model: str, about: dict[str, dict[str, Any]]) -> None:
    """Cold start and memory of each engine, or why it did not start."""
    print(f"\n{model}: seconds to the first answer of a new process, MB of memory then and at most")
    for engine, one in about.items():
        if "failure" in one:
            print(f"{engine:<27} failed: {one['failure']}")
            continue
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        print(f"{engine:<27}{one['cold_start_s']:>8.1f}{one['ready_mb']:>8.0f}{one['peak_mb']:>8.0f}  {versions}")
    print(end="", flush=True)
