"""Run the code blocks of Markdown pages: bash and Python, in order, in one shell and one folder."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SKIP = re.compile(r"<!-- not run: \S.*-->")
FENCE = re.compile(r"^```(\w*)\s*$")
LIMIT_SECONDS = 500


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        language: word after the fence.
        text: its lines.
        line: number of its first line in the page.
        is_run: whether it runs; `<!-- not run: reason -->` on the line above keeps it from it.
    """

    language: str
    text: str
    line: int
    is_run: bool


def blocks(page: str) -> list[Block]:
    """All code blocks of a page."""
    found = []
    lines = page.splitlines()
    at = 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        at += 1
        if not opening:
            continue
        above = next((line for line in reversed(lines[: at - 1]) if line.strip()), "")
        end = lines.index("```", at)
        is_run = opening[1] in ("bash", "python") and not SKIP.fullmatch(above.strip())
        found.append(Block(opening[1], "\n".join(lines[at:end]), at + 1, is_run))
        at = end + 1
    return found


def script(page: str) -> str:
    """A bash script of all blocks that run; Python blocks become programs of their own."""
    parts = ["set -euo pipefail"]
    for block in blocks(page):
        if block.is_run:
            parts.append(f"echo '== block at line {block.line}' >&2")
            parts.append(
                block.text if block.language == "bash" else f"python - <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK"
            )
    return "\n".join(parts) + "\n"


def run(pages: Sequence[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the blocks of pages in a folder, with the `unmask` and `python` of this environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", "\n".join(f"echo '# {page.name}' >&2\n" + script(page.read_text("utf-8")) for page in pages)],
        cwd=folder,
        env={**os.environ, "PATH": path, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
