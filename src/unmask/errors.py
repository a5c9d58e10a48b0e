"""What a user can be told: one error class and its children, each with an exit code.

Every message names the place, the value, what was expected, the remedy, and what is already safe on disk.
"""

import re

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory")


class UnmaskError(Exception):
    """A mistake or a misfortune that the user can act on; anything else is a bug and keeps its traceback.

    Args:
        code: stable name of the error, such as `ragged-row`; `docs/reference/errors.md` lists them all.
        reason: one sentence that says what is wrong.
        place: `file:line`, folder or settings field where it was found.
        value: the offending value as the user wrote it.
        expected: what would have been accepted.
        remedy: what to do next.
        saved: what has been saved so far and where.
    """

    exit_code = 1

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        place: object = None,
        value: object = None,
        expected: str | None = None,
        remedy: str | None = None,
        saved: str | None = None,
    ) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.details = {
            "place": place,
            "value": value,
            "expected": expected,
            "fix": remedy,
            "saved": saved,
        }

    def __str__(self) -> str:
        lines = [f"{self.reason} [{self.code}]"]
        lines += [f"  {name}: {_short(text)}" for name, text in self.details.items() if text is not None]
        return "\n".join(lines)


class UsageError(UnmaskError):
    """The command or its settings make no sense."""

    exit_code = 2


class DataError(UnmaskError):
    """A file of the user's data cannot be used as it is."""

    exit_code = 3


class ArtefactError(UnmaskError):
    """A model, corpus, tokenizer or run folder is missing, incomplete or corrupt."""

    exit_code = 4


class ResourceError(UnmaskError):
    """Disk or memory does not suffice."""

    exit_code = 5


class NumericError(UnmaskError):
    """A loss or a gradient is not finite."""

    exit_code = 6


class DistributedError(UnmaskError):
    """A process of a distributed run has died, hangs, or disagrees with the others."""

    exit_code = 7


class InterruptedRunError(UnmaskError):
    """The user or the system ended the process, and the work was saved first."""

    def __init__(self, signal: int, saved: str) -> None:
        super().__init__(
            "interrupted", f"ended by signal {signal}", saved=saved, remedy="the same command goes on from there"
        )
        self.exit_code = 128 + signal


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory does not suffice: `MemoryError`, or torch's `RuntimeError` by its words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def _short(text: object, limit: int = 400) -> str:
    line = str(text)
    return line if len(line) <= limit else f"{line[:limit]}... ({len(line)} characters)"
