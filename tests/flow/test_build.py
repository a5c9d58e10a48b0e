"""From text to an encoder in one command, and its number format and card."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import tomli_w
import torch
import transformers

from tests import runs
from tests.flow.test_spine import run
from tests.unit.data.corpora import write_text
from unmask import Predictor, golden
from unmask.checkpoint import load_model
from unmask.data import corpus
from unmask.data.files import read_documents
from unmask.errors import DataError, InterruptedRunError, UsageError
from unmask.storage import digest, locked
from unmask.tokenizer.train import train
from unmask.train.build import STAGES, build
from unmask.train.pretrain import pretrain
from unmask.train.settings import BuildSettings, PretrainSettings

CARD = {"name": "tiny-en", "language": "en", "license": "cc0-1.0", "sections": {"Training text": "Made by a test."}}


def settings(**changes: object) -> BuildSettings:
    chosen = runs.settings(**changes).model_dump()
    return BuildSettings(vocab_size=400, pretrain=PretrainSettings.model_validate(chosen))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "a.txt", num_documents=80)


@pytest.fixture(scope="module")
def half(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in float16 with a card of its own."""
    output = tmp_path_factory.mktemp("half") / "made"
    return build([text], output, settings(weights_dtype="float16", card=CARD), processes=1).model


def test_it_is_the_three_stages_by_hand(text: Path, tmp_path: Path) -> None:
    told: list[str] = []
    made = build([text], tmp_path / "made", settings(), processes=1, on_stage=told.append)
    train((document.text for document in read_documents([text])), vocab_size=400).save(tmp_path / "tokenizer")
    corpus.build([text], tokenizer_folder=tmp_path / "tokenizer", output=tmp_path / "corpus", processes=1)
    by_hand = pretrain([tmp_path / "corpus"], tmp_path / "run", settings().pretrain)
    mine, others = runs.weights(made.model.parent), runs.weights(by_hand.model.parent)
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)
    assert told == list(STAGES)


def test_the_same_call_again_goes_on(text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InterruptedRunError), runs.stopped_at(5):
        build([text], tmp_path, settings(), processes=1)
    stamp = (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns
    done = build([text], tmp_path, settings(), processes=1)
    assert (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns == stamp
    assert done.steps == 10
    assert runs.events(tmp_path / "pretrain", "step")[-1]["step"] == 10
    for size in (300, 500):
        with pytest.raises(UsageError, match="an earlier call made a tokenizer of 400 ids"):
            build([text], tmp_path, settings().model_copy(update={"vocab_size": size}), processes=1)
    with pytest.raises(UsageError):
        build([text], tmp_path, settings(seed=4), processes=1)


def test_a_tokenizer_of_other_files_is_not_taken_over(text: Path, tmp_path: Path) -> None:
    other = write_text(tmp_path / "b.txt", num_documents=81)
    build([text], tmp_path / "made", settings(), processes=1)
    for left in ("corpus", "pretrain"):
        shutil.rmtree(tmp_path / "made" / left)
    with pytest.raises(UsageError, match="made a tokenizer from other files"):
        build([other], tmp_path / "made", settings(), processes=1)
    build([other, text], tmp_path / "two", settings(), processes=1)
    with pytest.raises(UsageError, match="their order"):
        build([text, other], tmp_path / "two", settings(), processes=1)
    moved = text.rename(tmp_path / "moved.txt")
    try:
        build([moved], tmp_path / "made", settings(), processes=1)
    finally:
        moved.rename(text)


def test_a_file_may_be_mended_before_there_is_a_tokenizer(text: Path, tmp_path: Path) -> None:
    broken = tmp_path / "b.txt"
    broken.write_bytes(b"good\n\xff\xfe\xfa bad\n")
    with pytest.raises(DataError):
        build([broken], tmp_path / "made", settings(), processes=1)
    broken.write_bytes(text.read_bytes())
    assert build([broken], tmp_path / "made", settings(), processes=1).steps == 10


def test_python_too_leaves_out_a_card_of_other_text(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="unmask")
    asked = settings(card=CARD | {"sources": ["0" * 32]})
    card = (build([text], tmp_path / "made", asked, processes=1).model / "README.md").read_text("utf-8")
    assert "Made by a test." not in card
    assert "cc0-1.0" not in card
    assert "tells of other text" in caplog.text


def test_a_card_of_other_text_is_left_out(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_text(tmp_path / "b.txt", num_documents=81)
    recipe = tmp_path / "own.toml"
    card = CARD | {"sources": [digest(text)]}
    values = {"command": "build", "vocab_size": 400, "pretrain": runs.settings().model_dump(exclude_none=True)}
    recipe.write_text(tomli_w.dumps(values | {"pretrain": values["pretrain"] | {"card": card}}))
    monkeypatch.chdir(tmp_path)
    for file, more, title in ((text, (), "# tiny-en"), (other, ("--pretrain.card.name", "mine"), "# mine")):
        assert run("build", file, "--recipe", recipe, "--output", file.stem, "--processes", 1, *more) == 0
        told = (tmp_path / file.stem / "pretrain/model/README.md").read_text("utf-8")
        is_its_own = file is text
        assert f"{title}\n" in told
        assert ("Made by a test." in told) == ("cc0-1.0" in told) == is_its_own
        assert ("is left out" in capsys.readouterr().err) != is_its_own


def test_half_of_the_bytes_hold_the_same_model(half: Path, text: Path, tmp_path: Path) -> None:
    whole = build([text], tmp_path / "whole", settings(), processes=1).model
    on_disk = safetensors.torch.load_file(half / "model.safetensors")
    assert {tensor.dtype for tensor in on_disk.values()} == {torch.float16}
    assert (half / "model.safetensors").stat().st_size < 0.6 * (whole / "model.safetensors").stat().st_size
    read, exact = load_model(half).state_dict, load_model(whole).state_dict
    assert all(torch.equal(read[name], exact[name].half().float()) for name in exact)
    assert golden.verify(half)["difference"] < 1e-6


def test_transformers_opens_it_in_float32(half: Path) -> None:
    network = transformers.AutoModelForMaskedLM.from_pretrained(half)
    assert network.dtype == torch.float32
    tokenizer = transformers.AutoTokenizer.from_pretrained(half)
    with torch.inference_mode():
        theirs = network(**tokenizer("the <mask>", return_tensors="pt")).logits[0, -2].softmax(-1)
    [answer] = Predictor.load(half)(["the <mask>"])
    best = answer.masks[0].candidates[0]
    assert best.score == pytest.approx(float(theirs.max()), abs=1e-5)


def test_the_card_says_what_was_asked(half: Path) -> None:
    card = (half / "README.md").read_text("utf-8")
    assert card.startswith('---\nlanguage: "en"\nlicense: "cc0-1.0"\nlibrary_name: unmask\n')
    assert "# tiny-en\n" in card
    assert 'Predictor.load("this folder")' in card, "no such name comes with the package"
    assert "## Training text\n\nMade by a test.\n" in card
    losses = [event["loss"] for event in runs.events(half.parent, "evaluation")]
    assert all(f"| {loss:.3f} |" in card for loss in losses)
    assert "Made by a test" not in card.partition("All settings")[2]


def test_ranks_and_a_second_call_at_once_are_refused(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path), pytest.raises(UsageError):
        build([text], tmp_path, settings(), processes=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        build([text], tmp_path, settings(), processes=1)
    assert not (tmp_path / "tokenizer").exists()
