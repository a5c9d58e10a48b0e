"""The parity certificate finds a changed weight, a changed tokenizer and a changed file."""

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from unmask.errors import ArtefactError
from unmask.golden import make_golden, verify


@pytest.mark.parametrize("make", [tiny.classifier, tiny.masked_lm])
def test_an_unchanged_folder_passes(make, tmp_path: Path) -> None:
    task = make()
    found = verify(tiny.saved(task, tmp_path / "model", golden=make_golden(task)))
    assert found["texts"] == 3
    assert found["difference"] <= 1e-6


def test_other_logits_are_found(tmp_path: Path) -> None:
    task = tiny.classifier()
    golden = make_golden(task)
    with torch.no_grad():
        task.encoder.layers[0].up.weight.mul_(-1.1)
    with pytest.raises(ArtefactError, match="logits differ") as caught:
        verify(tiny.saved(task, tmp_path / "model", golden=golden))
    assert caught.value.exit_code == 4


def test_other_ids_are_found(tmp_path: Path) -> None:
    task = tiny.classifier()
    golden = make_golden(task)
    golden["texts"][1]["input_ids"][2] += 1
    with pytest.raises(ArtefactError, match="certified ids"):
        verify(tiny.saved(task, tmp_path / "model", golden=golden))


def test_a_logit_that_is_no_number_is_found(tmp_path: Path) -> None:
    task = tiny.classifier()
    golden = json.loads(json.dumps(make_golden(task)))
    golden["texts"][0]["logits"][0] = float("nan")
    with pytest.raises(ArtefactError, match="logits differ"):
        verify(tiny.saved(task, tmp_path / "model", golden=golden))
