"""Rows that are left out on request, with the reason of each."""

import logging
from collections import Counter
from pathlib import Path

from unmask import disk, storage
from unmask.errors import DataError

log = logging.getLogger("unmask")


class Rejects:
    """A list of bad rows; call it with the error of each.

    Attributes:
        errors: what was wrong, in the order of reading.
    """

    def __init__(self) -> None:
        self.errors: list[DataError] = []

    def __call__(self, error: DataError) -> None:
        """Note a row that is left out."""
        self.errors.append(error)

    def write(self, path: Path) -> None:
        """Write place, code, reason and value of each row, parted by tabs, and tell how many there were.

        The folder of the file is made; an earlier file is removed when there is nothing to write.

        Raises:
            UsageError: something that is no folder has its folder's name.
            ResourceError: the disk refuses it.
        """
        if not self.errors:
            path.unlink(missing_ok=True)
            return
        disk.make_folder(path.parent)  # of an output that nothing was written to yet
        storage.write_text(path, "".join(map(_line, self.errors)))
        kinds = Counter(error.code for error in self.errors).most_common()
        counts = ", ".join(f"{count} {code}" for code, count in kinds)
        log.warning("%d bad rows are left out (%s); each with its reason: %s", len(self.errors), counts, path)


def _line(error: DataError) -> str:
    cells = (error.details["place"], error.code, error.reason, error.details["value"] or "")
    return "\t".join(" ".join(str(cell).split()) for cell in cells) + "\n"
