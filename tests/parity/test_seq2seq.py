"""Teacher-forced logits, loss and gradients, and our folder, against the reference library's encoder-decoder."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaModel,
)

from tests import tiny
from tests.parity.hf_models import VOCAB, Texts
from unmask.model.config import EncoderConfig
from unmask.model.convert import from_hf, to_hf
from unmask.model.decoder import Decoder, Pairing
from unmask.model.encoder import Encoder
from unmask.tasks.seq2seq import Seq2Seq

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
SOURCES = [5, 17, 9, 30, 64, 31, 8, 8, 3]
TARGETS = [7, 3, 30, 12, 64, 1, 8, 8, 25]
START = 0
IGNORED = -100
_CLASSES = {
    "roberta": (RobertaConfig, RobertaModel, RobertaForCausalLM),
    "bert": (BertConfig, BertModel, BertLMHeadModel),
}


class Ours(torch.nn.Module):
    """Encoder and decoder, named as the task names them."""

    def __init__(self, config: EncoderConfig, num_layers: int, *, share_embeddings: bool) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = Decoder(config, self.encoder.embeddings, num_layers, share_embeddings=share_embeddings)

    def forward(self, sources: Texts, targets: Texts) -> torch.Tensor:
        """(U, V) logits."""
        hidden = self.encoder(sources.input_ids, sources.position_ids, sources.layout)
        pairing = Pairing(targets.layout, sources.layout)
        return self.head(hidden, targets.input_ids, targets.position_ids, pairing)


def reference(family: str, num_layers: int) -> EncoderDecoderModel:
    """A random model of the reference library, biases and norms too."""
    config_class, encoder_class, decoder_class = _CLASSES[family]
    is_bert = family == "bert"
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64 if is_bert else 66,
        "type_vocab_size": 2 if is_bert else 1,
        "layer_norm_eps": 1e-12 if is_bert else 1e-5,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    torch.manual_seed(1)
    encoder = encoder_class(config_class(num_hidden_layers=3, **shape), add_pooling_layer=False)
    decoder = decoder_class(
        config_class(num_hidden_layers=num_layers, is_decoder=True, add_cross_attention=True, **shape)
    )
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def bare(model: EncoderDecoderModel) -> dict[str, torch.Tensor]:
    """The weights as our folders name them: the encoder without prefix, the decoder with its own."""
    return {name.removeprefix("encoder.") if name.startswith("encoder.") else name: value
            for name, value in model.state_dict().items()}  # fmt: skip


def twin(model: EncoderDecoderModel, num_layers: int) -> Ours:
    config = EncoderConfig.from_hf(model.config.encoder.to_dict())
    ours = Ours(config, num_layers, share_embeddings=False)
    ours.load_state_dict(from_hf(bare(model), config, "seq2seq").state_dict)
    return ours.eval()


def padded(texts: Texts, values: torch.Tensor, fill: int) -> torch.Tensor:
    """(B, S) of packed values."""
    wide = torch.full(texts.mask.shape, fill)
    wide[texts.mask] = values
    return wide


@pytest.mark.parametrize(("family", "num_layers"), [("roberta", 3), ("roberta", 2), ("bert", 3)])
def test_logits_loss_and_gradients_equal_the_reference(family: str, num_layers: int) -> None:
    model = reference(family, num_layers)
    ours = twin(model, num_layers)
    config = ours.encoder.config
    sources, targets = Texts(config, SOURCES), Texts(config, TARGETS, seed=1)
    sources.token_type_ids = torch.zeros_like(sources.input_ids)
    labels = torch.randint(4, VOCAB, targets.input_ids.shape, generator=torch.Generator().manual_seed(2))
    want = model(
        input_ids=padded(sources, sources.input_ids, config.pad_token_id),
        attention_mask=sources.mask.long(),
        decoder_input_ids=padded(targets, targets.input_ids, config.pad_token_id),
        decoder_attention_mask=targets.mask.long(),
    ).logits[targets.mask]
    want_loss = torch.nn.functional.cross_entropy(want, labels)
    logits = ours(sources, targets)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(logits, want, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(loss, want_loss, atol=TOLERANCE, rtol=0)
    want_loss.backward()
    loss.backward()
    gradients = {name: one.grad for name, one in model.named_parameters()}
    body = "decoder.bert." if family == "bert" else "decoder.roberta."
    key = gradients[f"{body}encoder.layer.0.crossattention.self.key.weight"]
    value = gradients[f"{body}encoder.layer.0.crossattention.self.value.weight"]
    found = ours.head.layers[0].cross_kv.weight.grad
    torch.testing.assert_close(found, torch.cat([key, value]), atol=GRADIENT_TOLERANCE, rtol=0)
    first = gradients["encoder.encoder.layer.0.output.dense.weight"]
    torch.testing.assert_close(ours.encoder.layers[0].down.weight.grad, first, atol=GRADIENT_TOLERANCE, rtol=0)


@pytest.mark.filterwarnings("ignore:Version v4.12.0:FutureWarning")  # said by the reference at every loss
def test_labels_stand_as_the_reference_shifts_them() -> None:
    task = tiny.seq2seq(label_smoothing=0.0).eval()
    batch = task.collate(task.encode(tiny.rows_of(task), is_training=True))
    model = published(task)
    sources, targets = (
        torch.nn.utils.rnn.pad_sequence(
            values.split(lengths.tolist()), batch_first=True, padding_value=IGNORED
        )
        for values, lengths in (
            (batch.input_ids, torch.from_numpy(batch.cu_seqlens).diff()),
            (batch.labels, torch.from_numpy(batch.target_cu_seqlens).diff()),
        )
    )  # fmt: skip
    model.config.decoder_start_token_id = task.tokenizer.cls_id
    model.config.pad_token_id = task.tokenizer.pad_id
    with torch.no_grad():
        want = model(
            input_ids=sources.where(sources >= 0, torch.tensor(task.tokenizer.pad_id)),
            attention_mask=(sources >= 0).long(),
            labels=targets,
        ).loss
        loss = task.loss(task(batch), batch) / batch.num_targets
    torch.testing.assert_close(loss, want, atol=TOLERANCE, rtol=0)


def test_the_folder_opens_as_an_encoder(tmp_path: Path) -> None:
    task = tiny.seq2seq().eval()
    model = AutoModel.from_pretrained(tiny.saved(task, tmp_path / "model"), add_pooling_layer=False).eval()
    (features,) = task.encode([{"text": "a fine film"}])
    with torch.no_grad():
        want = model(torch.from_numpy(features.input_ids.astype("int64"))[None]).last_hidden_state[0]
        found = task.encoded(task.collate([features]))
    torch.testing.assert_close(found, want, atol=TOLERANCE, rtol=0)


def published(task: Seq2Seq) -> PreTrainedModel:
    """The reference library's model with our weights, by the recipe of the guide."""
    weights = to_hf(task.state_dict(), task.config, "seq2seq")
    shape = {**task.config.to_hf(), "attn_implementation": "eager"}
    encoder = RobertaModel(RobertaConfig(**shape), add_pooling_layer=False)
    decoder = RobertaForCausalLM(RobertaConfig(**shape, is_decoder=True, add_cross_attention=True))
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    named = {name if name.startswith("decoder.") else f"encoder.{name}": value for name, value in weights.items()}
    shared = {f"decoder.roberta.{name}": value for name, value in weights.items() if name.startswith("embeddings.")}
    absent = model.load_state_dict(shared | named, strict=False)
    assert not absent.unexpected_keys
    assert all(name.startswith("decoder.lm_head.decoder.") for name in absent.missing_keys)
    model.decoder.lm_head.decoder.weight = model.decoder.roberta.embeddings.word_embeddings.weight
    model.decoder.lm_head.decoder.bias = model.decoder.lm_head.bias
    return model.eval()
