"""The command that looks at labelled files."""

import json
from pathlib import Path

import pytest

from unmask.cli.data import debug_data


def test_files_of_one_name_in_two_folders_are_both_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name / "rows.tsv" for name in "abc"]
    for at, file in enumerate(files):
        file.parent.mkdir()
        rows = "".join(f"text number {at} {row} of {file.parent.name}\t{'yn'[row % 2]}\n" for row in range(9))
        file.write_text("text\tlabel\n" + rows)
    debug_data(*files, json=True)
    shown = json.dumps(json.loads(capsys.readouterr().out))
    assert all(str(file) in shown for file in files)
