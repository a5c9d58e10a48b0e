"""The documentation cannot lie: its code runs, its generated pages are fresh, its links lead somewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.blocks import blocks, run, script
from tests.house.source import ROOT
from unmask.cli import app

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
WRITTEN = [ROOT / "README.md", *GUIDES]
PAGES = [*WRITTEN, *sorted((ROOT / "docs").glob("*/*.md")), ROOT / "docs" / "log.md", *sorted(ROOT.glob("*.md"))]
# Pages that run one after the other in one folder: the second one uses what the first one has made.
CHAINS = [[ROOT / "README.md", ROOT / "docs" / "guides" / "getting-started.md"]]
CHAINS += [[page] for page in GUIDES if page not in CHAINS[0]]
MAX_README_LINES = 150


def commands(group: object = app, prefix: str = "") -> Iterator[str]:
    """Names of all commands, such as `tokenizer train`."""
    for name, command in group.resolved_commands().items():  # type: ignore[attr-defined]
        if name.startswith("-"):
            continue
        below = list(commands(command, f"{prefix}{name} "))
        yield from below or [f"{prefix}{name}"]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("pages", CHAINS, ids=lambda pages: "+".join(page.stem for page in pages))
def test_code_blocks_run(pages: list[Path], tmp_path: Path) -> None:
    done = run(pages, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_page_has_code_that_runs(page: Path) -> None:
    assert any(block.is_run for block in blocks(page.read_text("utf-8")))


def test_reference_is_fresh() -> None:
    check = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.parametrize("command", list(commands()))
def test_command_has_a_guide(command: str) -> None:
    assert any(f"unmask {command}" in page.read_text("utf-8") for page in GUIDES), f"no guide shows `unmask {command}`"


@pytest.mark.parametrize("page", sorted(set(PAGES)), ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = [
        target for target in targets if target and "://" not in target and not (page.parent / target).resolve().exists()
    ]
    assert not broken


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MAX_README_LINES


PAGE = """Text.

```bash
value=3
```

<!-- not run: needs a network -->
```bash
exit 9
```

```text
not code
```

```python
print("from python")
```

```bash
test "$value" = 3 && echo "$value" > out.txt
```
"""


def test_blocks_share_one_shell_and_skipped_ones_do_not_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    done = run([page], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "from python\n"
    assert (tmp_path / "out.txt").read_text() == "3\n"
    assert [block.line for block in blocks(PAGE)] == [4, 9, 13, 17, 21]


def test_a_block_that_fails_fails_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nfalse\n```\n\n```bash\necho after\n```\n")
    done = run([page], tmp_path)
    assert done.returncode != 0
    assert "after" not in done.stdout
    assert "block at line 2" in done.stderr


def test_a_mark_without_reason_does_not_skip() -> None:
    assert "exit 9" in script("<!-- not run: -->\n```bash\nexit 9\n```\n")
