"""The benchmark of the bundled models: its sets are those that are made, and its other column is the model's twin."""

import json
import sys
from pathlib import Path

import bundled
import pytest
import task_sets
import torch

from unmask.bundled import CHINESE, ENGLISH, find_model
from unmask.checkpoint import load_model
from unmask.study.suites import load_suite


def test_its_sets_are_made_and_fine_tuned() -> None:
    suite = load_suite(str(Path(bundled.__file__).with_name("tasks.toml")))
    made = {*task_sets.TABBED, *task_sets.OTHERS, *task_sets.COPIED}
    assert {*suite.tasks} == made
    assert {name for names in bundled.SETS.values() for name in names} <= made
    assert bundled.SETS.keys() == bundled.PUBLISHED.keys() == {ENGLISH, CHINESE}


def test_a_twin_is_of_its_own_model(tmp_path: Path) -> None:
    for name in (ENGLISH, CHINESE, ENGLISH):
        folder = find_model(name)
        twin, model = load_model(bundled.random_twin(folder, tmp_path)), load_model(folder)
        assert twin.config == model.config
        assert twin.tokenizer.fingerprint == model.tokenizer.fingerprint
        words = "encoder.layers.0.up.weight"
        assert not torch.equal(twin.state_dict[words], model.state_dict[words])


@pytest.mark.parametrize("indent", [None, 2])
def test_names_of_cluener_are_cut_where_an_object_ends(indent: int | None, tmp_path: Path) -> None:
    rows = [{"text": f"字{number}", "label": {"name": {"字": [[0, 0]]}}} for number in range(20)]
    (tmp_path / "train.json").write_text("\n".join(json.dumps(row, indent=indent) for row in rows), "utf-8")
    train, dev = task_sets.cluener(tmp_path)
    assert train + dev == rows
    assert len(dev) == 2


def test_a_model_without_sets_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["bundled.py", str(tmp_path), str(tmp_path / "out"), "--model", str(tmp_path)])
    with pytest.raises(SystemExit, match="--only"):
        bundled.main()
