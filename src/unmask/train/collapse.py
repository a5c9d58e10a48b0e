"""Whether a fine-tuning has collapsed: it gives one answer to everything (Mosbach et al. 2021, section 3)."""

import math
from collections import Counter
from collections.abc import Sequence

_TOLERANCE = 0.99
# Scores that any constant answer gets: no correlation.
_ZERO = ("mcc", "pearson", "spearman")


def why_collapsed(
    *, loss: float | None, score: float, metric: str, train: Sequence[str], dev: Sequence[str]
) -> str | None:
    """Say why a run counts as collapsed; `None` for one that has learned something.

    Args:
        loss: mean loss over the targets in the last epoch, in nats; `None` where it is no cross-entropy of the strata.
        score: on the dev rows.
        metric: name of the score.
        train: strata of the rows trained on, such as their classes.
        dev: strata of the dev rows.
    """
    if loss is not None and loss >= _TOLERANCE * (limit := entropy(train)):
        return f"the training loss ends at {loss:.3f}, the entropy of the classes is {limit:.3f}"
    chance = chance_level(metric, dev)
    if chance is not None and score <= chance:
        return f"{metric} {score:.4f} is what one answer to everything gets"
    return None


def entropy(strata: Sequence[str]) -> float:
    """Entropy of the frequencies of strata, in nats: the cross-entropy of answering with the frequencies alone."""
    return -sum(n / len(strata) * math.log(n / len(strata)) for n in Counter(strata).values())


def chance_level(metric: str, strata: Sequence[str]) -> float | None:
    """The best score of a model that gives one answer to rows of these strata; `None` where it is not known."""
    if metric in _ZERO:
        return 0.0
    counts = Counter(strata)
    if len(counts) < 2:
        return None
    share = max(counts.values()) / len(strata)
    return {"accuracy": share, "macro_f1": 2 * share / (1 + share) / len(counts)}.get(metric)
