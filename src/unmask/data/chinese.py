"""Chinese words by rjieba (dictionary and hidden Markov model), in the extra `zh`."""

from importlib.metadata import version

from unmask.errors import UsageError

try:
    import rjieba
except ImportError:
    rjieba = None


class Rjieba:
    """Cuts runs of Han characters into the words of rjieba's own dictionary.

    Attributes:
        name: `rjieba` and its version.

    Raises:
        UsageError: rjieba is not installed.
    """

    def __init__(self) -> None:
        if rjieba is None:
            raise UsageError(
                "missing-extra",
                "Chinese words need the package rjieba, which is not installed",
                remedy="pip install 'unmask[zh]'",
            )
        self.name = f"rjieba {version('rjieba')}"

    def __call__(self, run: str) -> list[str]:
        """Cut a run of Han characters into its words."""
        words: list[str] = rjieba.cut(run)
        return words
