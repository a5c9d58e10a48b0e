"""The command line answers `--help` without loading what it does not need; `benchmarks/` measures the seconds."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pyarrow", "sklearn", "scipy", "tokenizers", "transformers")


def loaded_by(*words: str) -> list[str]:
    """Names of the heavy packages that `unmask WORDS` loads."""
    code = (
        "import sys\n"
        "from unmask.cli import main\n"
        f"sys.argv = ['unmask', *{list(words)!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("--help") == []


def test_version_loads_nothing_heavy() -> None:
    assert loaded_by("--version") == []


@pytest.mark.parametrize("command", ["pretrain", "finetune", "evaluate", "predict", "verify", "doctor", "demo"])
def test_help_of_a_command_loads_no_torch(command: str) -> None:
    assert "torch" not in loaded_by(command, "--help")
