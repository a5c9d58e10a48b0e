"""What a pre-training run begins with, refuses, says beforehand and ends with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests import runs, tiny
from tests.unit.data.corpora import small_corpus, write_text, write_tokenizer
from unmask.checkpoint import load_model, save_model
from unmask.config import load_recipe
from unmask.data.corpus import build
from unmask.errors import ArtefactError, NumericError, ResourceError, UsageError
from unmask.model.places import continued
from unmask.train.dry_run import dry_run
from unmask.train.fit import Trainer
from unmask.train.guard import SpikeGuard, Verdict
from unmask.train.network import known_places
from unmask.train.pretrain import pretrain
from unmask.train.settings import ModelSettings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), num_documents=80).folder


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a short run."""
    return pretrain([corpus], tmp_path_factory.mktemp("run") / "first", runs.settings()).model


def other_corpus(folder: Path, tokenizer: Path, name: str, seed: int) -> Path:
    text = write_text(folder / f"{name}.txt", num_documents=40, seed=seed)
    build([text], tokenizer_folder=tokenizer, output=folder / name, processes=1)
    return folder / name


def test_it_goes_on_from_a_model_folder(corpus: Path, first: Path, tmp_path: Path) -> None:
    chosen = runs.settings(optim={"lr": 1e-9}, model={"hidden_dropout_prob": 0.0}, max_steps=1, eval_every=1)
    result = pretrain([corpus], tmp_path / "on", chosen, model=first)
    (before,) = [event["loss"] for event in runs.events(first.parent, "evaluation")][-1:]
    assert result.loss == pytest.approx(before, rel=1e-5)


def test_the_weights_of_a_model_folder_are_taken_and_its_shape_is_kept(
    corpus: Path, first: Path, tmp_path: Path
) -> None:
    bare = runs.settings().model_copy(update={"model": runs.settings().model.__class__()})
    result = pretrain([corpus], tmp_path / "on", bare, model=first)
    assert load_model(result.model).config == load_model(first).config
    dropped = runs.settings(model={"hidden_dropout_prob": 0.25}, max_steps=1)
    result = pretrain([corpus], tmp_path / "dropped", dropped, model=first)
    assert load_model(result.model).config.hidden_dropout_prob == 0.25
    with pytest.raises(UsageError, match="takes 32 tokens") as caught:
        pretrain([corpus], tmp_path / "long", runs.settings(block_length=64, model={"max_length": 32}), model=first)
    assert caught.value.details["fix"].endswith("--model.max-length 64")
    for sizes, message in (
        ({"num_attention_heads": 4}, "need 2 of hidden_size 16"),
        ({"hidden_size": 8}, "hidden_size 8 is below the model's 16"),
        ({"hidden_size": 33}, "hidden_size 33 is not a multiple"),
    ):
        with pytest.raises(UsageError, match=message):
            pretrain([corpus], tmp_path / "odd", runs.settings(model=sizes), model=first)


def test_a_model_grows_to_the_sizes_of_the_settings(corpus: Path, first: Path, tmp_path: Path) -> None:
    """What it says stays, and the run's own settings make the same network again."""
    sharp, generator = load_model(first), torch.Generator().manual_seed(0)
    for name, weight in sharp.state_dict.items():  # far from random, so that every layer has a part in the loss
        if "layers" in name:
            weight.add_(torch.empty_like(weight).normal_(0, 0.5, generator=generator))
    save_model(tmp_path / "sharp/model", config=sharp.config, state_dict=sharp.state_dict, tokenizer=sharp.tokenizer,
               head="masked_lm", labels=None, meta={}, card="", golden=None)  # fmt: skip
    once = {"optim": {"lr": 1e-9}, "max_steps": 1, "eval_every": 1}
    before = pretrain([corpus], tmp_path / "same", runs.settings(**once), model=tmp_path / "sharp/model")
    sizes = {
        "num_hidden_layers": sharp.config.num_hidden_layers + 2,
        "intermediate_size": sharp.config.intermediate_size + 8,
        "max_length": sharp.config.max_length + 40,
    }
    chosen = runs.settings(**once, model={**sizes, "num_attention_heads": sharp.config.num_attention_heads})
    result = pretrain([corpus], tmp_path / "large", chosen, model=tmp_path / "sharp/model")
    assert load_model(result.model).config == sharp.config.model_copy(update=sizes)
    assert result.loss == pytest.approx(before.loss, abs=1e-3)
    apart = pretrain([corpus], tmp_path / "random", chosen)
    assert abs(apart.loss - before.loss) > 0.1
    kept = load_recipe(str(tmp_path / "large/config.toml"), "pretrain")["model"]
    assert {name: kept[name] for name in sizes} == sizes
    assert kept["hidden_size"] == sharp.config.hidden_size
    assert "* weights of sharp/model: " in (result.model / "README.md").read_text()


def test_a_wider_network_gets_more_heads_of_the_same_width(corpus: Path, first: Path, tmp_path: Path) -> None:
    small = load_model(first).config
    settings = runs.settings(max_steps=1)
    settings = settings.model_copy(update={"model": ModelSettings(hidden_size=3 * small.hidden_size)})
    large = load_model(pretrain([corpus], tmp_path / "wide", settings, model=first).model).config
    assert large.num_attention_heads == 3 * small.num_attention_heads
    assert large.intermediate_size == small.intermediate_size


def test_another_tokenizer_is_refused(corpus: Path, tmp_path: Path) -> None:
    stranger = tiny.saved(tiny.masked_lm(), tmp_path / "stranger")
    with pytest.raises(ArtefactError, match="another tokenizer"):
        pretrain([corpus], tmp_path / "run", runs.settings(), model=stranger)
    assert not (tmp_path / "run").exists()
    third = other_corpus(tmp_path, write_tokenizer(tmp_path / "tok", vocab_size=350), "third", 5)
    with pytest.raises(UsageError, match="another tokenizer"):
        pretrain([corpus, third], tmp_path / "run", runs.settings())


@pytest.mark.parametrize("objective", ["mlm+nsp", "mlm+sop"])
def test_pairs_from_a_roberta_get_a_second_token_type(
    objective: str, corpus: Path, first: Path, tmp_path: Path
) -> None:
    chosen = runs.settings(input_format="segment_pair", objective=objective)
    model = load_model(pretrain([corpus], tmp_path / "run", chosen, model=first).model)
    assert model.config.type_vocab_size == 2
    assert not [name for name in model.state_dict if "pair" in name]
    hf = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert hf.config.type_vocab_size == 2


def test_the_pair_head_learns(corpus: Path, tmp_path: Path) -> None:
    chosen = runs.settings(
        input_format="sentence_pair", objective="mlm+sop", max_steps=30, global_batch_size=16, eval_every=30
    )
    pretrain([corpus], tmp_path / "run", chosen)
    (scored,) = runs.events(tmp_path / "run", "evaluation")
    assert 0 < scored["pair_loss"] < 1.5, "near log 2 for a guess"
    losses = [event["loss"] for event in runs.events(tmp_path / "run", "step")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


def test_several_corpora_with_weights(corpus: Path, tmp_path: Path) -> None:
    second = other_corpus(tmp_path, corpus.parent / "tokenizer", "second", 7)
    chosen = runs.settings(corpus_weights=(3.0, 1.0))
    pretrain([corpus, second], tmp_path / "run", chosen)
    with pytest.raises(UsageError, match="corpus"):
        pretrain([second, corpus], tmp_path / "run", chosen)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "corpus second" in card


def test_rs6_a_changed_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    with runs.stopped_at(3), pytest.raises(Exception, match="ended by signal"):
        pretrain([corpus], tmp_path / "run", runs.settings())
    second = other_corpus(tmp_path, corpus.parent / "tokenizer", "corpus", 7)
    with pytest.raises(UsageError, match=r"inputs\.corpus"):
        pretrain([second], tmp_path / "run", runs.settings())


def test_rs8_unsafe_settings_are_refused_and_safe_ones_taken(corpus: Path, tmp_path: Path) -> None:
    with runs.stopped_at(3), pytest.raises(Exception, match="ended by signal"):
        pretrain([corpus], tmp_path / "run", runs.settings())
    with pytest.raises(UsageError, match=r"optim\.lr 0\.01 -> 0\.02"):
        pretrain([corpus], tmp_path / "run", runs.settings(optim={"lr": 0.02}))
    pretrain([corpus], tmp_path / "run", runs.settings(save_every=7, log_every=2, machine={"data_threads": 0}))


def test_the_mean_of_weights_is_what_is_scored_and_kept(corpus: Path, tmp_path: Path) -> None:
    result = pretrain([corpus], tmp_path / "run", runs.settings(optim={"ema_decay": 0.5}))
    again = runs.settings(optim={"lr": 1e-9}, max_steps=1, eval_every=1, model={"hidden_dropout_prob": 0.0})
    assert pretrain([corpus], tmp_path / "on", again, model=result.model).loss == pytest.approx(result.loss, rel=1e-5)


def test_z_loss_pulls_the_partition_function_towards_one(corpus: Path, tmp_path: Path) -> None:
    for name, weight in (("off", 0.0), ("on", 1.0)):
        pretrain([corpus], tmp_path / name, runs.settings(z_loss=weight, max_steps=20, eval_every=20))
    one, other = ([event["loss"] for event in runs.events(tmp_path / name, "step")] for name in ("off", "on"))
    assert other[0] > one[0] + 1, "log(400) squared is added at first"


def test_a_dry_run_has_the_places_of_the_run(corpus: Path, tmp_path: Path) -> None:
    """Of the last phase alone, whose blocks are shifted by what the short ones of before leave."""
    curriculum = {"block_lengths": (8,), "block_shares": (0.5,)}
    chosen = runs.settings(max_steps=2, eval_every=2, max_shift=24, curriculum=curriculum)
    found = dry_run([corpus], tmp_path / "run", chosen)
    made = load_model(pretrain([corpus], tmp_path / "real", chosen).model)
    assert made.config.max_length == 32
    assert found.num_parameters == sum(one.numel() for one in made.state_dict.values())


def test_a_dry_run_says_what_the_run_takes_and_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    chosen = runs.settings(max_steps=500, curriculum={"start_batch_size": 2, "batch_warmup_ratio": 0.5})
    found = dry_run([corpus], tmp_path / "run", chosen)
    assert not list(tmp_path.iterdir())
    result = pretrain([corpus], tmp_path / "real", runs.settings(max_steps=4, save_every=4, eval_every=4))
    assert found.num_parameters == sum(one.numel() for one in load_model(result.model).state_dict.values())
    real = sum(path.stat().st_size for path in (tmp_path / "real/checkpoints/step-000000004").iterdir())
    assert found.checkpoint_bytes == pytest.approx(real, rel=0.05)
    assert found.total_seconds == pytest.approx(500 * found.step_seconds)
    assert any("checkpoint" in line for line in found.to_lines())


def test_a_dry_run_refuses_a_disk_that_is_too_small(corpus: Path, tmp_path: Path, monkeypatch) -> None:
    class Small:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Small)
    with pytest.raises(ResourceError, match="need more room"):
        dry_run([corpus], tmp_path / "run", runs.settings())


def test_a_diverging_run_is_told_so(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericError):
        pretrain([corpus], tmp_path / "run", runs.settings(optim={"lr": 1e30, "max_grad_norm": 0.0}, max_steps=20))


def test_cr2_a_flipped_bit_in_a_corpus_ends_the_run_before_anything_is_kept(corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "corpus"
    shutil.copytree(corpus, damaged)
    shard = damaged / "tokens-00001.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"tokens-00001\.bin: content changed"):
        pretrain([damaged], tmp_path / "run", runs.settings(save_every=100))
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_checkpoint_is_due_by_time_too(corpus: Path, tmp_path: Path) -> None:
    often = runs.settings(save_every=1000, save_minutes=1e-9, keep_checkpoints=20)
    pretrain([corpus], tmp_path / "run", often)
    assert len(runs.events(tmp_path / "run", "checkpoint")) == 10


def test_where_blocks_get_longer_no_loss_is_a_spike_by_those_of_shorter_ones(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[int, int] = {}
    judge = SpikeGuard.judge

    def noting(self: SpikeGuard, step: int, loss: float) -> Verdict:
        known[step] = len(self.losses)
        return judge(self, step, loss)

    monkeypatch.setattr(SpikeGuard, "judge", noting)
    longer = {"block_lengths": (16,), "block_shares": (0.6,)}
    pretrain([corpus], tmp_path / "run", runs.settings(curriculum=longer))
    assert [known[step] for step in range(1, 11)] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def places_of(path: Path) -> torch.Tensor:
    """The rows of all places in a checkpoint, without those of padding."""
    return load_file(path)["encoder.embeddings.position.weight"][2:]


def test_places_of_later_blocks_go_on_from_the_learned_ones(corpus: Path, tmp_path: Path) -> None:
    """At the turn, and before each evaluation, which reads blocks of the final length."""
    longer = {"block_lengths": (16,), "block_shares": (0.6,)}
    chosen = runs.settings(curriculum=longer, save_every=1, keep_checkpoints=20, optim={"ema_decay": 0.5})
    pretrain([corpus], tmp_path / "run", chosen)
    agree = {}
    for folder in (tmp_path / "run/checkpoints").iterdir():
        tables = [places_of(folder / name) for name in ("model.safetensors", "mean.safetensors")]
        agree[int(folder.name[-9:])] = [torch.equal(one[16:], continued(one[:16], 16)) for one in tables]
    assert [step for step, both in agree.items() if any(both)] == [5, 6]
    assert all(agree[5] + agree[6])


def test_places_go_on_again_behind_a_return_to_weights_of_before_the_turn(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def returning(self: SpikeGuard, step: int, loss: float) -> Verdict:
        self.spikes = [8]
        return "roll back" if step == 8 else "accept"

    monkeypatch.setattr(SpikeGuard, "judge", returning)
    longer = {"block_lengths": (16,), "block_shares": (0.6,)}
    chosen = runs.settings(curriculum=longer, save_every=4, eval_every=100, keep_checkpoints=20)
    pretrain([corpus], tmp_path / "run", chosen)
    before, after = (places_of(tmp_path / f"run/checkpoints/step-{step:09d}/model.safetensors") for step in (4, 8))
    assert torch.equal(before[:16], after[:16])
    assert torch.equal(after[16:], continued(before[:16], 16))


def test_places_that_no_block_has_reached_go_on_and_are_not_taken_for_learned(corpus: Path, tmp_path: Path) -> None:
    """A model may have more places than the blocks of its training; a later run knows how many were learned."""
    short = runs.settings(block_length=16)
    first = pretrain([corpus], tmp_path / "first", short)
    table = places_of(tmp_path / "first/checkpoints/step-000000010/model.safetensors")
    assert torch.equal(table[16:], continued(table[:16], 16))
    assert known_places(first.model) == 16
    onward = pretrain([corpus], tmp_path / "on", short, model=first.model)
    table = load_model(onward.model).state_dict["encoder.embeddings.position.weight"][2:]
    assert torch.equal(table[16:], continued(table[:16], 16))
    grown = pretrain([corpus], tmp_path / "grown", runs.settings(model={"max_length": 48}), model=first.model)
    assert known_places(grown.model) == 32


def test_places_that_a_model_has_learned_stay(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pretrain([corpus], tmp_path / "first", runs.settings())
    assert known_places(first.model) == 32
    monkeypatch.setattr(Trainer, "change", lambda *_: pytest.fail("the places are changed"))
    longer = {"block_lengths": (16,), "block_shares": (0.6,)}
    pretrain([corpus], tmp_path / "on", runs.settings(curriculum=longer), model=first.model)
