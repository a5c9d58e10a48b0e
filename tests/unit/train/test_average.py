"""The mean of models: weight by weight, a folder like any other, and only of models that fit each other."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from unmask import golden
from unmask.checkpoint import load_model
from unmask.cli import main
from unmask.errors import UsageError
from unmask.predict import Predictor
from unmask.train.average import average_models


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three classifiers from one start, some steps apart."""
    made = []
    for seed in range(3):
        task = tiny.classifier()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in task.parameters():
                weight.add_(torch.empty_like(weight).normal_(0, 0.02, generator=generator))
        made.append(tiny.saved(task, tmp_path / f"model-{seed}"))
    return made


def test_every_weight_is_the_weighted_mean(folders: list[Path], tmp_path: Path) -> None:
    for weights, shares in (((), [1 / 3] * 3), ((3.0, 0.0, 1.0), [0.75, 0.0, 0.25])):
        output = tmp_path / f"mean-{len(weights)}"
        average_models(folders, output, weights=weights)
        found, parts = load_model(output), [load_model(folder) for folder in folders]
        assert found.config == parts[0].config
        assert found.labels == parts[0].labels
        for name, tensor in found.state_dict.items():
            expected = sum(share * part.state_dict[name].numpy().astype(np.float64)
                           for share, part in zip(shares, parts, strict=True))  # fmt: skip
            np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-7)
        assert [part["weight"] for part in found.meta["average"]] == pytest.approx(shares)
        assert golden.verify(output)["texts"] > 0


def test_the_command_writes_a_folder_that_answers(folders: list[Path], tmp_path: Path) -> None:
    (folders[0] / "README.md").write_text("# First\n")
    for name in ("MANIFEST.json", "unmask.json"):  # as a published folder is
        (folders[0] / name).unlink()
    with pytest.raises(SystemExit, match="0"):
        main(["average", *map(str, folders[:2]), "--output", str(tmp_path / "mean"), "--weight", "1", "--weight", "3"])
    assert Predictor.load(tmp_path / "mean")(["a text"])[0].label in load_model(folders[0]).labels
    card = (tmp_path / "mean" / "README.md").read_text()
    assert card.startswith("# First\n\n## Average")
    assert "model-1: 75 %" in card


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_weights_that_make_no_mean_are_refused(weights: tuple[float, ...], folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no mean"):
        average_models(folders[:2], tmp_path / "mean", weights=weights)
    with pytest.raises(UsageError, match="no mean"):
        average_models(folders[:1], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_models_that_do_not_fit_are_refused(folders: list[Path], tmp_path: Path) -> None:
    other = tiny.saved(tiny.masked_lm(), tmp_path / "other")
    with pytest.raises(UsageError, match="other heads and tasks and labels and weights") as caught:
        average_models([folders[0], other], tmp_path / "mean")
    assert caught.value.details["place"] == other
    with pytest.raises(UsageError, match="exists already"):
        average_models(folders, folders[0])
