"""Hidden states, logits and gradients against the reference library; packed, padded, alone and in batches."""

import numpy as np
import pytest
import torch

from tests.parity.hf_models import FAMILIES, Ours, Texts, reference, twin
from unmask.model.convert import to_hf
from unmask.model.layout import Layout

HIDDEN_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_mlm_logits_equal_the_reference(family: str) -> None:
    model = reference(family, "masked_lm")
    ours = twin(model, "masked_lm")
    texts = Texts(ours.encoder.config)
    with torch.no_grad():
        want = model(**texts.padded(model.config.pad_token_id), output_hidden_states=True)
        hidden = texts.encode(ours)
        logits = ours.head(hidden)
    torch.testing.assert_close(hidden, want.hidden_states[-1][texts.mask], atol=HIDDEN_TOLERANCE, rtol=0)
    torch.testing.assert_close(logits, want.logits[texts.mask], atol=HIDDEN_TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_equals_the_reference(family: str) -> None:
    model = reference(family, "masked_lm")
    ours = twin(model, "masked_lm").encoder
    texts = Texts(ours.config)
    with torch.no_grad():
        want = model(**texts.padded(model.config.pad_token_id), output_hidden_states=True).hidden_states
        found = ours.hidden_states(
            texts.input_ids, texts.position_ids, texts.layout, token_type_ids=texts.token_type_ids
        )
    assert len(found) == len(want)
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other[texts.mask], atol=HIDDEN_TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_classification_logits_equal_the_reference(family: str) -> None:
    model = reference(family, "classification")
    ours = twin(model, "classification")
    texts = Texts(ours.encoder.config)
    with torch.no_grad():
        want = model(**texts.padded(model.config.pad_token_id)).logits
        logits = ours.head(texts.encode(ours, needed=texts.firsts))
    torch.testing.assert_close(logits, want, atol=HIDDEN_TOLERANCE, rtol=0)


@pytest.mark.parametrize("lengths", [[5, 17, 9, 30, 64, 31], [16] * 4], ids=["mixed", "uniform"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_all_parameters_equal_the_reference(family: str, lengths: list[int]) -> None:
    model = reference(family, "masked_lm")
    ours = twin(model, "masked_lm")
    texts = Texts(ours.encoder.config, lengths)
    targets = texts.input_ids.roll(1)
    needed = torch.arange(0, len(targets), 3)
    labels = torch.full(texts.mask.shape, -100)
    labels[texts.mask] = torch.full_like(targets, -100).index_copy(0, needed, targets[needed])
    model(**texts.padded(model.config.pad_token_id), labels=labels).loss.backward()
    logits = ours.head(texts.encode(ours, needed=needed))
    torch.nn.functional.cross_entropy(logits, targets[needed]).backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    found = to_hf(gradients, ours.encoder.config, "masked_lm")
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in found:
            torch.testing.assert_close(found.pop(name), parameter.grad, atol=GRADIENT_TOLERANCE, rtol=0, msg=name)
    assert not found


@pytest.fixture(scope="module")
def ours() -> Ours:
    return twin(reference("roberta", "masked_lm"), "masked_lm")


@torch.no_grad()
def test_a_text_alone_gives_what_it_gives_in_a_batch(ours: Ours) -> None:
    texts = Texts(ours.encoder.config)
    together = texts.encode(ours)
    for start, stop in zip(texts.cu_seqlens[:-1], texts.cu_seqlens[1:], strict=True):
        alone = Layout.of(np.array([0, stop - start]))
        hidden = ours.encoder(texts.input_ids[start:stop], texts.position_ids[start:stop], alone)
        torch.testing.assert_close(hidden, together[start:stop], atol=HIDDEN_TOLERANCE, rtol=0)


@pytest.mark.parametrize("lengths", [[5, 17, 9, 30, 64, 31], [16] * 4], ids=["mixed", "uniform"])
def test_needed_equals_all_then_selected_with_its_gradients(ours: Ours, lengths: list[int]) -> None:
    texts = Texts(ours.encoder.config, lengths)
    needed = torch.tensor([0, 7, 7, 40, len(texts.input_ids) - 1])
    selected, direct = texts.encode(ours)[needed], texts.encode(ours, needed=needed)
    torch.testing.assert_close(direct, selected, atol=HIDDEN_TOLERANCE, rtol=0)
    weight = torch.randn_like(direct)
    parameters = list(ours.encoder.parameters())
    for one, other in zip(
        torch.autograd.grad((direct * weight).sum(), parameters),
        torch.autograd.grad((selected * weight).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=GRADIENT_TOLERANCE, rtol=GRADIENT_TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [[5, 17, 9, 30, 64, 31], [16] * 4], ids=["mixed", "uniform"])
@torch.no_grad()
def test_cuda_equals_the_cpu(ours: Ours, lengths: list[int]) -> None:
    texts = Texts(ours.encoder.config, lengths)
    want = texts.encode(ours)
    device = torch.device("cuda")
    ours.to(device)
    try:
        inputs = (texts.input_ids.to(device), texts.position_ids.to(device), Layout.of(texts.cu_seqlens, device))
        exact = ours.encoder(*inputs).cpu()
        with torch.autocast("cuda", torch.bfloat16):
            rough = ours.encoder(*inputs).float().cpu()
    finally:
        ours.to("cpu")
    torch.testing.assert_close(exact, want, atol=1e-4, rtol=0)
    torch.testing.assert_close(rough, want, atol=0.1, rtol=0)
