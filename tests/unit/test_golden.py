"""The parity certificate finds a changed weight, a changed tokenizer and a changed file."""

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from unmask.engine.portable import change_products
from unmask.errors import ArtefactError
from unmask.golden import make_golden, verify, with_precisions


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
    with pytest.raises(ArtefactError, match="logits in float32 differ") as caught:
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
    with pytest.raises(ArtefactError, match="logits in float32 differ"):
        verify(tiny.saved(task, tmp_path / "model", golden=golden))


def certified(tmp_path: Path, *, shift: float = 0.0) -> Path:
    """A folder with logits in bfloat16, all of them moved a little."""
    task = tiny.classifier()
    exact = make_golden(task)
    change_products(task.encoder, "bfloat16")
    lower = make_golden(task) | {"tolerance": 1e-2}
    for one in lower["texts"]:
        one["logits"] = [value + shift for value in one["logits"]]
    return tiny.saved(tiny.classifier(), tmp_path / "model", golden=with_precisions(exact, {"bfloat16": lower}))


def test_each_certified_precision_is_checked_by_its_own_tolerance(tmp_path: Path) -> None:
    found = verify(certified(tmp_path))
    assert found["difference"] <= 1e-6
    assert 0 <= found["precisions"]["bfloat16"] <= 1e-2
    with pytest.raises(ArtefactError, match=r"logits in bfloat16 differ by 0\.02"):
        verify(certified(tmp_path, shift=0.02))


def test_a_further_precision_leaves_those_that_are_there() -> None:
    golden = with_precisions({"texts": []}, {"int8": {"tolerance": 1.0}})
    assert with_precisions(golden, {"bfloat16": {}})["precisions"] == {"int8": {"tolerance": 1.0}, "bfloat16": {}}
