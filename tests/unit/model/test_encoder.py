"""The random start, refusals, training mode, and the golden logits of a seeded model."""

import numpy as np
import pytest
import torch

from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.heads import ClassificationHead, MaskedLMHead
from unmask.model.layout import Layout

CONFIG = EncoderConfig(
    vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_length=20
)
LENGTHS = [3, 12, 7]
IDS = torch.arange(sum(LENGTHS)) * 7 % 46 + 4
POSITIONS = torch.from_numpy(np.concatenate([np.arange(length) + 2 for length in LENGTHS]))
GOLDEN_TOLERANCE = 1e-4
GOLDEN = [[-0.06663, 0.0, -0.1087, 0.0739], [-0.02102, 0.0, -0.01297, -0.04824], [-0.15489, 0.0, -0.1482, -0.10411]]


def _layout() -> Layout:
    return Layout.of(np.concatenate([[0], np.cumsum(LENGTHS)]))


def _model(seed: int = 0, config: EncoderConfig = CONFIG) -> tuple[Encoder, MaskedLMHead]:
    encoder = Encoder(config)
    head = MaskedLMHead(config, encoder.embeddings.word)
    encoder.init_weights(seed)
    head.init_weights(seed + 1)
    return encoder, head


def test_the_random_start_follows_the_seed_and_bert() -> None:
    encoder, other = _model()[0], _model(1)[0]
    for (name, one), two in zip(encoder.named_parameters(), _model()[0].parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(encoder.layers[0].qkv.weight, other.layers[0].qkv.weight)
    assert encoder.layers[0].up.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not encoder.embeddings.word.weight[CONFIG.pad_token_id].any()
    assert encoder.layers[1].attention_norm.weight.eq(1).all()


def test_the_tied_table_is_no_parameter_of_the_head() -> None:
    _, head = _model()
    assert sorted(head.state_dict()) == ["bias", "dense.bias", "dense.weight", "norm.bias", "norm.weight"]


def test_a_text_beyond_max_length_is_refused_on_the_host() -> None:
    encoder, _ = _model()
    ids = torch.full((21,), 5)
    with pytest.raises(ValueError, match="a text of 21 tokens; the model takes 20"):
        encoder(ids, ids, Layout.of(np.array([0, 21])))


def test_dropout_acts_in_training_only_and_follows_torchs_seed() -> None:
    encoder, _ = _model()
    with torch.no_grad():
        quiet = encoder.eval()(IDS, POSITIONS, _layout())
        assert torch.equal(quiet, encoder(IDS, POSITIONS, _layout()))
    encoder.train()
    torch.manual_seed(4)
    one, two = encoder(IDS, POSITIONS, _layout()), encoder(IDS, POSITIONS, _layout())
    torch.manual_seed(4)
    again = encoder(IDS, POSITIONS, _layout())
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_autocast_computes_in_bfloat16_and_gives_fp32_gradients() -> None:
    encoder, head = _model()
    encoder.eval()
    with torch.no_grad():
        want = head(encoder(IDS, POSITIONS, _layout()))
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(encoder(IDS, POSITIONS, _layout(), needed=torch.tensor([1, 20])))
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), want[[1, 20]], atol=0.02, rtol=0)
    logits.float().square().sum().backward()
    assert {parameter.grad.dtype for parameter in encoder.parameters() if parameter.grad is not None} == {torch.float32}
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_golden_logits_of_a_seeded_model() -> None:
    encoder, head = _model(seed=11)
    with torch.no_grad():
        logits = head.eval()(encoder.eval()(IDS, POSITIONS, _layout()))
    torch.testing.assert_close(logits[[0, 5, 21], :4], torch.tensor(GOLDEN), atol=GOLDEN_TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_classification_dropout_stands_where_the_family_has_it(family: str) -> None:
    config = CONFIG.model_copy(update={"family": family})
    head = ClassificationHead(config, 3, dropout=0.5)
    head.init_weights(0)
    hidden = torch.randn(4, 32)
    assert head.dropout_before == (0.0 if family == "bert" else 0.5)
    quiet = head.eval()(hidden)
    assert torch.equal(quiet, head.out(torch.tanh(head.dense(hidden))))
    assert not torch.equal(head.train()(hidden), quiet)
    assert ClassificationHead(config, 3).dropout == config.hidden_dropout_prob
