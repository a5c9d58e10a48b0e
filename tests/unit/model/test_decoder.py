"""The decoder: packed as each pair alone, step by step as all at once, and started from an encoder."""

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.model.decoder import Decoder, Pairing, taken_layers
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout

SOURCES = [5, 17, 9, 30, 64, 31, 8, 8, 3]
TARGETS = [7, 3, 30, 12, 64, 1, 8, 8, 25]
TOLERANCE = 1e-5


class Pairs:
    """Random hidden states of sources, and random targets."""

    def __init__(self, decoder: Decoder, sources: list[int] = SOURCES, targets: list[int] = TARGETS) -> None:
        generator = torch.Generator().manual_seed(3)
        config = decoder.config
        self.decoder = decoder
        self.source = torch.randn(sum(sources), config.hidden_size, generator=generator)
        self.target_ids = torch.randint(4, config.vocab_size, (sum(targets),), generator=generator)
        self.sources = np.cumsum([0, *sources])
        self.targets = np.cumsum([0, *targets])
        places = np.concatenate([np.arange(length) for length in targets])
        self.position_ids = torch.from_numpy(places + config.position_offset)

    def logits(self, source: torch.Tensor | None = None, target_ids: torch.Tensor | None = None) -> torch.Tensor:
        pairing = Pairing(Layout.of(self.targets), Layout.of(self.sources))
        given = self.source if source is None else source
        ids = self.target_ids if target_ids is None else target_ids
        return self.decoder(given, ids, self.position_ids, pairing)

    def alone(self, at: int) -> torch.Tensor:
        source, target = (slice(*starts[at : at + 2].tolist()) for starts in (self.sources, self.targets))
        pairing = Pairing(
            Layout.of(np.array([0, target.stop - target.start])), Layout.of(np.array([0, source.stop - source.start]))
        )
        return self.decoder(self.source[source], self.target_ids[target], self.position_ids[target], pairing)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return made()


def made(num_layers: int = 2, **changes: object) -> Decoder:
    config = tiny.config(initializer_range=0.1, **changes)
    encoder = Encoder(config)
    encoder.init_weights(0)
    decoder = Decoder(config, encoder.embeddings, num_layers)
    decoder.init_weights(1)
    return decoder.eval().requires_grad_(False)


@pytest.mark.parametrize("lengths", [(SOURCES, TARGETS), ([6] * 5, [4] * 5), (SOURCES, [4] * 9), ([6] * 9, TARGETS)])
def test_packed_pairs_equal_each_pair_alone(decoder: Decoder, lengths: tuple[list[int], list[int]]) -> None:
    pairs = Pairs(decoder, *lengths)
    alone = torch.cat([pairs.alone(at) for at in range(len(lengths[0]))])
    torch.testing.assert_close(pairs.logits(), alone, atol=TOLERANCE, rtol=0)


def test_a_target_sees_its_past_and_its_source_and_nothing_else(decoder: Decoder) -> None:
    pairs = Pairs(decoder)
    before = pairs.logits()
    place = int(pairs.targets[2]) + 10
    ids = pairs.target_ids.clone()
    ids[place] = 4 if ids[place] != 4 else 5
    changed = (pairs.logits(target_ids=ids) - before).abs().amax(1) > TOLERANCE
    assert torch.equal(torch.nonzero(changed)[:, 0], torch.arange(place, pairs.targets[3]))
    source = pairs.source.clone()
    source[int(pairs.sources[4]) - 1] += 1.0
    changed = (pairs.logits(source=source) - before).abs().amax(1) > TOLERANCE
    assert torch.equal(torch.nonzero(changed)[:, 0], torch.arange(pairs.targets[3], pairs.targets[4]))


def test_needed_gives_these_rows_alone(decoder: Decoder) -> None:
    pairs = Pairs(decoder)
    needed = torch.tensor([3, 0, 70])
    pairing = Pairing(Layout.of(pairs.targets), Layout.of(pairs.sources))
    some = decoder(pairs.source, pairs.target_ids, pairs.position_ids, pairing, needed=needed)
    torch.testing.assert_close(some, pairs.logits()[needed], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_step_by_step_equals_all_at_once(decoder: Decoder, num_beams: int) -> None:
    length, sources = 6, [5, 17, 9]
    few = Pairs(decoder, sources, [1, 1, 1])
    pairs = Pairs(decoder, list(np.repeat(sources, num_beams)), [length] * 3 * num_beams)
    texts = few.source.split(sources)
    repeated = torch.cat([text for text in texts for _ in range(num_beams)])
    want = pairs.logits(source=repeated).view(3 * num_beams, length, -1)
    tokens = pairs.target_ids.view(3 * num_beams, length)
    decoding = decoder.start(few.source, Layout.of(few.sources), num_beams)
    for at in range(length):
        torch.testing.assert_close(decoding.step(tokens[:, at]), want[:, at], atol=TOLERANCE, rtol=0)


def test_selected_hypotheses_go_on_as_if_they_had_always_been_there(decoder: Decoder) -> None:
    pairs = Pairs(decoder, [5, 17, 9], [1, 1, 1])
    layout = Layout.of(pairs.sources)
    tokens = torch.tensor([[10, 11], [12, 13], [14, 15], [16, 17], [18, 19], [20, 21]])
    decoding = decoder.start(pairs.source, layout, 2)
    for at in range(2):
        decoding.step(tokens[:, at])
    chosen = torch.tensor([1, 1, 5, 4])  # source 1 is done
    decoding.select(chosen.numpy(), np.array([0, 2]))
    found = decoding.step(torch.tensor([30, 31, 32, 33]))
    again = decoder.start(torch.cat([pairs.source[:5], pairs.source[22:]]), Layout.of(np.array([0, 5, 14])), 2)
    for at in range(2):
        again.step(tokens[chosen, at])
    want = again.step(torch.tensor([30, 31, 32, 33]))
    torch.testing.assert_close(found, want, atol=TOLERANCE, rtol=0)


def test_gradients_do_not_depend_on_the_company() -> None:
    decoder = made().requires_grad_(True)
    pairs = Pairs(decoder)
    weights = torch.randn(sum(TARGETS), decoder.config.vocab_size, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in decoder.named_parameters()]
    together = torch.autograd.grad((pairs.logits() * weights).sum(), list(decoder.parameters()))
    alone = torch.cat([pairs.alone(at) for at in range(len(SOURCES))])
    wanted = torch.autograd.grad((alone * weights).sum(), list(decoder.parameters()))
    for name, one, other in zip(names, together, wanted, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, atol=2e-5 * max(1.0, scale), rtol=0, msg=name)


def test_dropout_is_drawn_in_training_alone() -> None:
    decoder = made(hidden_dropout_prob=0.2)
    pairs = Pairs(decoder)
    assert torch.equal(pairs.logits(), pairs.logits())
    decoder.train()
    torch.manual_seed(0)
    first = pairs.logits()
    assert not torch.equal(first, pairs.logits())
    torch.manual_seed(0)
    assert torch.equal(first, pairs.logits())


def test_bfloat16_stays_near(decoder: Decoder) -> None:
    pairs = Pairs(decoder)
    exact = pairs.logits()
    found = pairs.logits(source=pairs.source.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().mean() < 0.05 * exact.std()


def test_a_target_longer_than_the_table_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="a target of 65 tokens"):
        Pairs(decoder, [3], [65]).logits()


@pytest.mark.parametrize(
    ("num_encoder", "num_decoder", "wanted"),
    [(12, 12, list(range(12))), (12, 6, [1, 3, 5, 7, 9, 11]), (12, 1, [11]), (4, 3, [0, 1, 3]), (3, 2, [0, 2])],
)
def test_fewer_layers_are_every_kth(num_encoder: int, num_decoder: int, wanted: list[int]) -> None:
    assert taken_layers(num_encoder, num_decoder) == wanted
    with pytest.raises(ValueError, match="cannot come from"):
        taken_layers(num_encoder, num_encoder + 1)


@pytest.mark.parametrize("share", [True, False])
def test_a_decoder_starts_from_the_encoder(share: bool) -> None:
    encoder = Encoder(tiny.config(num_hidden_layers=4))
    encoder.init_weights(0)
    decoder = Decoder(encoder.config, encoder.embeddings, 2, share_embeddings=share)
    decoder.init_weights(1)
    names = dict(decoder.named_parameters())
    taken = decoder.take_over(encoder)
    for at, place in enumerate([1, 3]):
        for name, value in encoder.layers[place].named_parameters():
            assert torch.equal(names[f"layers.{at}.{name}"], value)
    fresh = sorted(set(names) - set(taken))
    assert fresh == sorted(name for name in names if name.startswith("lm.") or ".cross_" in name)  # nothing else is new
    assert any(name.startswith("embeddings.") for name in names) is not share
    assert torch.equal(
        decoder.embed(torch.tensor([7]), 3), encoder.embeddings(torch.tensor([7]), torch.tensor([5]), None)
    )
