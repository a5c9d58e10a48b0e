"""Whether probabilities mean what they say, and the one number that mends most of it (Guo et al. 2017)."""

import math
from collections.abc import Callable

import numpy as np
import scipy

# The temperature is drawn towards 1 as if by a few rows: e^0.5 times off costs half a nat in all. Without this a model
# that is right on each of a few dev rows would be made infinitely sure.
_SPREAD = 0.5
_LOWEST, _HIGHEST = 0.05, 20.0


def calibration_error(confidences: np.ndarray, hits: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over bins of equal width, by rows.

    Args:
        confidences: probabilities, (N,).
        hits: 1 where the answer is right (or the class is there), else 0, (N,).
        bins: between 0 and 1.
    """
    places = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=confidences - hits, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def fit_temperature(loss: Callable[[float], float]) -> float:
    """The temperature T with the smallest loss; logits are divided by it.

    Args:
        loss: negative log-likelihood of all dev rows at a temperature, in nats.
    """
    found = scipy.optimize.minimize_scalar(
        lambda log_t: loss(math.exp(log_t)) + 0.5 * (log_t / _SPREAD) ** 2,
        bounds=(math.log(_LOWEST), math.log(_HIGHEST)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return math.exp(float(found.x))


def mean_softmax(logits: np.ndarray, starts: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of classes of which one is right: the mean of a row's windows, (N, C) float64.

    Args:
        logits: of all windows of all rows, (W, C).
        starts: first window of each row, (N,).
        temperature: divides the logits.
    """
    return _mean(scipy.special.softmax(logits.astype(np.float64) / temperature, axis=-1), starts)


def mean_sigmoid(logits: np.ndarray, starts: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of classes that are there or not, each by itself: the mean of a row's windows, (N, C) float64."""
    return _mean(scipy.special.expit(logits.astype(np.float64) / temperature), starts)


def _mean(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    counts = np.diff(starts, append=len(values))
    return np.asarray(np.add.reduceat(values, starts, axis=0) / counts[:, None])
