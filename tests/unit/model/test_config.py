"""config.json read and written: derived positions, bounds, refusals."""

import pytest

from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig

PUBLISHED = {
    "model_type": "roberta", "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 514,
    "type_vocab_size": 1, "layer_norm_eps": 1e-05, "pad_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "family", "positions", "offset"),
    [("roberta", "roberta", 514, 2), ("xlm-roberta", "xlm-roberta", 514, 2), ("camembert", "xlm-roberta", 514, 2),
     ("bert", "bert", 512, 0)],
)  # fmt: skip
def test_length_and_offset_are_derived(kind: str, family: str, positions: int, offset: int) -> None:
    pad = 0 if kind == "bert" else 1
    content = PUBLISHED | {"model_type": kind, "max_position_embeddings": positions, "pad_token_id": pad}
    config = EncoderConfig.from_hf(content)
    assert (config.family, config.max_length, config.position_offset) == (family, 512, offset)
    assert config.num_positions == positions
    assert config.to_hf()["max_position_embeddings"] == positions
    assert EncoderConfig.from_hf(config.to_hf(head="masked_lm")) == config


def test_the_written_file_names_class_and_labels() -> None:
    content = EncoderConfig.from_hf(PUBLISHED).to_hf(head="classification", labels=["no", "yes"])
    assert content["architectures"] == ["RobertaForSequenceClassification"]
    assert content["id2label"] == {"0": "no", "1": "yes"}
    assert content["label2id"] == {"no": 0, "yes": 1}
    assert content["layer_norm_eps"] == 1e-5
    assert content["type_vocab_size"] == 1


def test_a_file_without_pad_id_takes_the_familys() -> None:
    content = {key: value for key, value in PUBLISHED.items() if key != "pad_token_id"}
    assert EncoderConfig.from_hf(content).pad_token_id == 1
    assert EncoderConfig.from_hf(content | {"model_type": "bert"}).pad_token_id == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_type": "gpt2"}, "wrong-model-type"),
        ({"model_type": None}, "wrong-model-type"),
        ({"hidden_act": "relu"}, "unsupported-model"),
        ({"position_embedding_type": "relative_key"}, "unsupported-model"),
        ({"is_decoder": True}, "unsupported-model"),
        ({"tie_word_embeddings": False}, "unsupported-model"),
        ({"hidden_size": 1_000_000_000}, "bad-model-config"),
        ({"num_hidden_layers": -1}, "bad-model-config"),
        ({"num_attention_heads": 7}, "bad-model-config"),
        ({"vocab_size": None}, "bad-model-config"),
        ({"vocab_size": "many"}, "bad-model-config"),
        ({"max_position_embeddings": "514"}, "bad-model-config"),
        ({"max_position_embeddings": 2}, "bad-model-config"),
        ({"pad_token_id": 60_000}, "bad-model-config"),
        ({"layer_norm_eps": float("nan")}, "bad-model-config"),
    ],
)
def test_other_networks_and_senseless_sizes_are_refused(change: dict, code: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        EncoderConfig.from_hf(PUBLISHED | change, place="config.json")
    assert caught.value.code == code
    assert caught.value.details["place"] == "config.json"
    assert caught.value.details["fix"]
