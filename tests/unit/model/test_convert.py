"""The table of names in both directions, and what unfit weights get."""

import pytest
import torch

from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig, Head
from unmask.model.convert import from_hf, published_names, to_hf
from unmask.model.encoder import Encoder
from unmask.model.heads import ClassificationHead, MaskedLMHead

FAMILIES = ("roberta", "xlm-roberta", "bert")
HEADS: tuple[Head | None, ...] = (None, "masked_lm", "classification")


def _config(family: str = "roberta") -> EncoderConfig:
    return EncoderConfig(
        family=family, vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_length=10,
    )  # fmt: skip


def _weights(config: EncoderConfig, head: Head | None) -> dict[str, torch.Tensor]:
    encoder = Encoder(config)
    heads = {
        "masked_lm": lambda: MaskedLMHead(config, encoder.embeddings.word),
        "classification": lambda: ClassificationHead(config, 3),
    }
    model = torch.nn.ModuleDict({"encoder": encoder} | ({"head": heads[head]()} if head else {}))
    return {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_there_and_back_is_the_same(family: str, head: Head | None) -> None:
    config = _config(family)
    weights = _weights(config, head)
    assert set(weights) == set(published_names(config, head))
    back = from_hf(to_hf(weights, config, head), config)
    assert (back.head, back.missing, back.unused, back.unknown) == (head, [], [], [])
    assert set(back.state_dict) == set(weights)
    assert all(torch.equal(back.state_dict[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_old_names_buffers_prefixes_and_tied_copies_are_understood(family: str) -> None:
    config = _config(family)
    weights = _weights(config, "masked_lm")
    published = to_hf(weights, config, "masked_lm")
    stem = "cls.predictions" if family == "bert" else "lm_head"
    body = "bert." if family == "bert" else "roberta."
    published |= {
        f"{stem}.decoder.weight": published[f"{body}embeddings.word_embeddings.weight"].clone(),
        f"{stem}.decoder.bias": published.pop(f"{stem}.bias"),
        f"{body}embeddings.position_ids": torch.arange(12)[None],
        f"{body}pooler.dense.weight": torch.ones(8, 8),
        "something.else": torch.ones(1),
    }
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.half()
        for name, tensor in published.items()
    }
    bare = {name.removeprefix(body): tensor for name, tensor in published.items()}
    for variant, tolerance in ((old, 1e-2), (bare, 0), ({f"module.{name}": x for name, x in published.items()}, 0)):
        found = from_hf(variant, config)
        assert (found.head, found.missing) == ("masked_lm", [])
        assert found.unused == ["pooler.dense.weight"]
        assert found.unknown == ["something.else"]
        for name, tensor in weights.items():
            assert found.state_dict[name].dtype == torch.float32
            torch.testing.assert_close(found.state_dict[name], tensor, atol=tolerance, rtol=0)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_an_untied_head_is_refused(part: str) -> None:
    config = _config()
    published = to_hf(_weights(config, "masked_lm"), config, "masked_lm")
    published[f"lm_head.decoder.{part}"] = torch.zeros(20, 8) if part == "weight" else torch.zeros(20)
    with pytest.raises(ArtefactError, match="untied-head"):
        from_hf(published, config)


def test_a_missing_head_is_listed_and_bert_keeps_its_pooler() -> None:
    config = _config("bert")
    published = to_hf(_weights(config, "classification"), config, "classification")
    del published["classifier.weight"], published["classifier.bias"]
    found = from_hf(published, config, "classification")
    assert found.missing == ["head.out.weight", "head.out.bias"]
    assert "head.dense.weight" in found.state_dict
    assert from_hf(published, config).head is None
    missing = from_hf(published, config, "masked_lm").missing
    assert missing == [name for name in published_names(config, "masked_lm") if name.startswith("head.")]


def test_missing_extra_and_misshapen_encoder_weights_are_refused() -> None:
    config = _config()
    published = to_hf(_weights(config, None), config)
    name = "encoder.layer.1.attention.self.key.weight"
    with pytest.raises(ArtefactError, match=f"missing-weights.*|{name}"):
        from_hf({key: tensor for key, tensor in published.items() if key != name}, config)
    with pytest.raises(ArtefactError, match="unknown-weights"):
        from_hf(published, config.model_copy(update={"num_hidden_layers": 1}))
    with pytest.raises(ArtefactError) as caught:
        from_hf(published, config.model_copy(update={"hidden_size": 10}))
    assert caught.value.code == "shape-mismatch"
    assert "embeddings.word_embeddings.weight: [20, 8], config.json says [20, 10]" in caught.value.reason
    assert caught.value.reason.count("\n") == 10


def test_only_the_weights_of_the_table_are_written() -> None:
    config = _config()
    weights = _weights(config, "masked_lm")
    with pytest.raises(ValueError, match=r"head\.bias"):
        to_hf(weights, config)
    del weights["head.bias"]
    with pytest.raises(KeyError):
        to_hf(weights, config, "masked_lm")
