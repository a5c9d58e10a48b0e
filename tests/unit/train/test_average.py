"""The mean of models: weight by weight, a folder like any other, and only of models that fit each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from unmask import golden
from unmask.checkpoint import load_model, save_model
from unmask.cli import main
from unmask.errors import UsageError
from unmask.predict import Predictor
from unmask.tasks.classification import Classification
from unmask.train.average import average_models
from unmask.train.network import known_places


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three classifiers from one start, some steps apart."""
    made = []
    for seed in range(3):
        task = tiny.classifier()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in task.parameters():
                weight.add_(torch.empty_like(weight).normal_(0, 0.005, generator=generator))
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
    front = "---\n# a comment\nlicense: mit\n---\n"
    (folders[0] / "README.md").write_text(front + '\n# First\n\nPredictor.load("First")\n')
    for name in ("MANIFEST.json", "unmask.json"):  # as a published folder is
        (folders[0] / name).unlink()
    (tmp_path / "run").mkdir()
    second = folders[1].rename(tmp_path / "run/model")
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                "average",
                str(folders[0]),
                str(second),
                "--output",
                str(tmp_path / "mean"),
                *["--weight", "1", "--weight", "3"],
            ]
        )
    assert Predictor.load(tmp_path / "mean")(["a text"])[0].label in load_model(folders[0]).labels
    card = (tmp_path / "mean" / "README.md").read_text()
    assert card.startswith(front + '\n# mean\n\nPredictor.load("mean")\n\n## Average')
    assert "* run/model: 75 %" in card


def test_half_of_float32_stays_half(tmp_path: Path) -> None:
    for number in (1, 2):
        task = tiny.masked_lm()
        with torch.no_grad():
            task.encoder.layers[0].up.weight.mul_(number).copy_(task.encoder.layers[0].up.weight.half())
        save_model(tmp_path / f"{number}", config=task.config, state_dict=task.state_dict(), tokenizer=task.tokenizer,
                   head="masked_lm", labels=None, meta={}, card="", golden=None, dtype=torch.float16)  # fmt: skip
    average_models([tmp_path / "1", tmp_path / "2"], tmp_path / "mean")
    one, mean = load_model(tmp_path / "1"), load_model(tmp_path / "mean")
    assert one.dtype == mean.dtype == torch.float16
    name = "encoder.layers.0.up.weight"
    torch.testing.assert_close(mean.state_dict[name], 1.5 * one.state_dict[name], rtol=1e-3, atol=0)
    assert golden.verify(tmp_path / "mean")["texts"] > 0, "the certificate is that of the weights on disk"


def test_places_that_one_model_has_learned_are_learned(tmp_path: Path) -> None:
    learned = [network(tmp_path / f"{number}", places=number) for number in (8, 16, 4)]
    unknown = network(tmp_path / "unknown")
    for number, (weights, folders, wanted) in enumerate((
        ((1.0, 3.0, 1.0), learned, 16),
        ((1.0, 0.0, 1.0), learned, 8),
        ((1.0, 1.0), [learned[0], unknown], tiny.config().max_length),
        ((1.0, 1.0), [unknown, learned[0]], tiny.config().max_length),
        ((1.0, 1.0), [learned[2], learned[0]], 8),
    )):  # fmt: skip
        average_models(folders, tmp_path / f"mean-{number}", weights=weights)
        assert known_places(tmp_path / f"mean-{number}") == wanted


def network(folder: Path, **meta: int) -> Path:
    """A masked language model with weights of its own."""
    task = tiny.masked_lm()
    generator = torch.Generator().manual_seed(sum(meta.values()))
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(torch.empty_like(weight).normal_(0, 0.005, generator=generator))
    save_model(folder, config=task.config, state_dict=task.state_dict(), tokenizer=task.tokenizer, head="masked_lm",
               labels=None, meta=meta, card="", golden=None)  # fmt: skip
    return folder


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_weights_that_make_no_mean_are_refused(weights: tuple[float, ...], folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no mean"):
        average_models(folders[:2], tmp_path / "mean", weights=weights)
    with pytest.raises(UsageError, match="no mean"):
        average_models(folders[:1], tmp_path / "mean")
    with pytest.raises(UsageError, match="count twice"):
        average_models([*folders[:2], folders[0]], tmp_path / "mean")
    with pytest.raises(UsageError, match="exists already"):
        average_models(folders, folders[0])
    assert not (tmp_path / "mean").exists()


def test_models_that_mean_something_else_are_refused(folders: list[Path], tmp_path: Path) -> None:
    wide = tiny.config(intermediate_size=tiny.config().intermediate_size * 2)
    others = {
        "the size intermediate_size: ": Classification(wide, tiny.tokenizer(), tiny.classifier().settings),
        "the head: 'classification'": tiny.masked_lm(),
        "the kind of labels: None": _with(tiny.classifier(), multi_label=True),
        "did not start from the same weights": _afresh(tiny.classifier()),
    }
    for number, (message, task) in enumerate(others.items()):
        other = tiny.saved(task, tmp_path / f"other-{number}")
        with pytest.raises(UsageError, match=message) as caught:
            average_models([folders[0], other], tmp_path / "mean")
        assert caught.value.details["place"] == other
    vectors = _with(tiny.embedder(), pooling="mean"), _with(tiny.embedder(), pooling="cls")
    with torch.no_grad():
        vectors[1].encoder.layers[0].up.bias.add_(1)
    first, second = (tiny.saved(task, tmp_path / f"vectors-{number}") for number, task in enumerate(vectors))
    with pytest.raises(UsageError, match="the setting pooling: 'mean'"):
        average_models([first, second], tmp_path / "mean")


def test_what_only_training_or_writing_reads_may_differ(tmp_path: Path) -> None:
    made = []
    for number, settings in enumerate(({}, {"head_dropout": 0.3, "temperature": 2.0, "top_k": 2})):
        task = _with(tiny.classifier(), **settings)
        with torch.no_grad():
            task.encoder.layers[1].up.weight.zero_()  # as layers that were added and not trained
            task.encoder.layers[0].up.bias.add_(number)
        made.append(tiny.saved(task, tmp_path / f"{number}"))
    average_models(made, tmp_path / "mean")
    assert not load_model(tmp_path / "mean").state_dict["encoder.layers.1.up.weight"].any()


def test_heads_that_began_apart_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = []
    for seed in range(2):
        task = tiny.classifier()
        task.head.init_weights(seed + 10)
        made.append(tiny.saved(task, tmp_path / f"{seed}"))
        with torch.no_grad():
            task.encoder.layers[0].up.bias.add_(seed)
    average_models(made, tmp_path / "mean")
    assert "the heads of 0 and 1 began apart (head.dense.weight" in caplog.text


def _with(task: Any, **changes: Any) -> Any:
    """The same task with other settings."""
    other = type(task)(task.config, task.tokenizer, task.settings.model_copy(update=changes))
    other.load_state_dict(task.state_dict())
    return other


def _afresh(task: Classification) -> Classification:
    task.init_weights(99)
    return task
