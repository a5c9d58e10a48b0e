"""Nothing in the repository speaks of the machine or the people that made it, or names a package registry."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT).as_posix()

# pattern -> why it must not stand in a tracked file.
FORBIDDEN = {
    r"(?<![\w.])/work(?![\w])": "a path of one machine",
    r"(?<![\w.])/opt/": "a path of one machine",
    r"(?<![\w.])/ro" r"ot/": "a path of one machine",
    r"(?<![\w.])/home/\w": "a path of one machine",
    r"\bpypi\b|\bpythonhosted\b|\bfiles\.pytorch\b|download\.pytorch|index-url": "a registry; pip knows its own",
    r"(?i)\bsessions?\b": "the work on the project, not the project",
}
# Words of the libraries that hold a forbidden one.
ALLOWED = re.compile(r"scope=\"session\"|InferenceSession|SessionOptions|session\.intra_op|start_new_session")


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name and name != THIS]


def test_no_forbidden_word() -> None:
    names = tracked()
    if not names:
        pytest.skip("not a git checkout")
    found = []
    for name in names:
        if not (ROOT / name).is_file() or name.startswith("src/unmask/bundled/"):
            continue
        text = (ROOT / name).read_text("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            line = ALLOWED.sub("", line)
            found += [
                f"{name}:{number}: {why}: {line.strip()}" for mark, why in FORBIDDEN.items() if re.search(mark, line)
            ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "cd " + "/wo" + "rk/main",
        "see " + "/wo" + "rk",
        "run " + "/op" + "t/x/bin",
        "a session",
        "Sessions",
        "https://pypi.org/simple",
    ],
)
def test_patterns_find_what_they_are_for(line: str) -> None:
    assert any(re.search(mark, line) for mark in FORBIDDEN)


@pytest.mark.parametrize("line", ["framework", "src/work.py", "obsession", "network/workers", "a/opt/b"])
def test_patterns_leave_other_words_alone(line: str) -> None:
    assert not any(re.search(mark, line) for mark in FORBIDDEN)
