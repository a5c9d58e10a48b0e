"""What a step computes beside the loss of its batches: two passes that shall agree, and a moved word table."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from unmask.data.batching import Batch
from unmask.errors import UsageError
from unmask.tasks.base import Task
from unmask.train.settings import RegularizeSettings

Forward = Callable[[Batch], torch.Tensor]

_OFF = RegularizeSettings()


class Regularizer:
    """Makes the loss of a batch, and says how often a step goes over its batches.

    Args:
        task: network and loss.
        settings: what to do; by default nothing beside the loss.

    Raises:
        UsageError: the word table shall be moved, but is frozen.
    """

    def __init__(self, task: Task, settings: RegularizeSettings = _OFF) -> None:
        self.task = task
        self.settings = settings
        if settings.fgm_epsilon and not task.encoder.embeddings.word.weight.requires_grad:
            raise UsageError(
                "frozen-words",
                "adversarial training moves the word table along its gradient, and a frozen one has none",
                place="regularize.fgm_epsilon",
                remedy="train all layers, or take --regularize.r-drop instead",
            )

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        """Sum over the batch's targets, as `Task.loss` gives it.

        R-Drop (Liang et al. 2021, equation 4, with the halves of the authors' code) is the mean of the losses of two
        passes and, weighted, the mean of both Kullback-Leibler divergences between their answers; where a target is
        several distributions, such as start and end of an answer, their mean.

        Args:
            forward: gives the logits of a batch.
            batch: with labels.
        """
        first = forward(batch)
        loss = self.task.loss(first, batch)
        if not self.settings.r_drop:
            return loss
        second = forward(batch)
        apart = divergence(self.task.log_probs(first, batch), self.task.log_probs(second, batch))
        return (loss + self.task.loss(second, batch)) / 2 + self.settings.r_drop * batch.num_targets * apart

    def passes(self) -> Iterator[None]:
        """Yield once for each time that a step goes over all its batches, adding up gradients.

        FGM (Miyato et al. 2017, equation 5) has a second pass, in which the word table stands a step of length epsilon
        away, along the gradient of the first: that of the whole step, so that it does not matter how the step is cut.
        """
        yield
        if self.settings.fgm_epsilon:
            with moved(self.task.encoder.embeddings.word.weight, self.settings.fgm_epsilon):
                yield


@contextlib.contextmanager
def moved(parameter: torch.Tensor, distance: float) -> Iterator[None]:
    """Move a parameter along its gradient inside the block; it comes back exactly.

    Args:
        parameter: with a gradient; it stays where it is if that is all 0.
        distance: length of the way, in the Euclidean norm of the whole parameter.
    """
    assert parameter.grad is not None, "the words of the step have moved it"
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(parameter.grad / parameter.grad.norm().clamp(min=1e-12), alpha=distance)
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)


def divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean of the two Kullback-Leibler divergences between distributions, and over all of them; a scalar.

    Args:
        first: logarithms of probabilities, of any shape: an entry is one outcome, and it does not matter which
            outcomes belong to one distribution. Impossible ones are -inf in both.
        second: of the same shape.
    """
    gap = torch.where(first.isneginf(), 0.0, first - second)
    p, q = first.exp(), second.exp()
    count = p.detach().sum().round()  # each sums to 1
    return ((p - q) * gap).sum() / 2 / count
