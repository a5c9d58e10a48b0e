"""A larger network begins where the small one ended, and all of it learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unmask.errors import UsageError
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.grow import grow
from unmask.model.heads import MaskedLMHead
from unmask.model.layout import Layout
from unmask.model.places import continued

SMALL = EncoderConfig(
    vocab_size=50,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=8,
    intermediate_size=256,
    max_length=12,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
LENGTHS = [3, 12, 7]
IDS = torch.arange(sum(LENGTHS)) * 7 % 46 + 4
POSITIONS = torch.from_numpy(np.concatenate([np.arange(length) + 2 for length in LENGTHS]))


class Network(nn.Module):
    """Encoder and masked-language-model head under the names of memory."""

    def __init__(self, config: EncoderConfig, seed: int = 0) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = MaskedLMHead(config, self.encoder.embeddings.word)
        self.encoder.init_weights(seed)
        self.head.init_weights(seed + 1)

    def forward(self, positions: torch.Tensor = POSITIONS) -> torch.Tensor:
        """Logits of all tokens."""
        layout = Layout.of(np.concatenate([[0], np.cumsum(LENGTHS)]))
        logits: torch.Tensor = self.head(self.encoder(IDS, positions, layout))
        return logits


def trained() -> Network:
    """Weights far from their start, whose states within the layers have a mean of 0, and none before and behind."""
    network = Network(SMALL)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("norm.weight") or (name.endswith("norm.bias") and name.startswith("encoder")):
                continue
            weight.add_(torch.empty_like(weight).normal_(0, 0.1, generator=generator))
            if name.endswith(("attention_out.weight", "attention_out.bias", "down.weight", "down.bias")):
                weight.sub_(weight.mean(0, keepdim=True))
        network.encoder.embeddings.word.weight.add_(0.3)
    return network.eval()


def grown(small: Network, **sizes: Any) -> tuple[Network, Network]:
    """The grown network, and the random one that it was grown in."""
    new = SMALL.model_copy(update=sizes)
    fresh, network = Network(new, seed=7), Network(new, seed=7)
    before = {name: weight.clone() for name, weight in fresh.state_dict().items()}
    network.load_state_dict(grow(small.state_dict(), fresh.state_dict(), old=SMALL, new=new))
    assert all(torch.equal(weight, before[name]) for name, weight in fresh.state_dict().items())
    return network.eval(), fresh


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 7},
        {"intermediate_size": 300},
        {"max_length": 40},
        {"hidden_size": 256, "num_attention_heads": 16},
        {
            "hidden_size": 384,
            "num_attention_heads": 24,
            "intermediate_size": 600,
            "num_hidden_layers": 5,
            "max_length": 30,
        },
    ],
    ids=str,
)
def test_logits_stay_where_means_are_0(sizes: dict[str, Any]) -> None:
    small = trained()
    network, fresh = grown(small, **sizes)
    with torch.no_grad():
        expected = small()
        assert expected.std() > 1
        torch.testing.assert_close(network(), expected, rtol=0, atol=2e-3)
        assert (fresh() - expected).abs().max() > 1


def test_depth_alone_changes_nothing_whatever_the_norms_are() -> None:
    small = trained()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, weight in small.named_parameters():
            if "norm." in name:
                weight.add_(torch.empty_like(weight).normal_(0, 0.3, generator=generator))
    for depth in (3, 4, 9):
        network, _ = grown(small, num_hidden_layers=depth)
        with torch.no_grad():
            torch.testing.assert_close(network(), small(), rtol=0, atol=1e-4)


def test_gradients_do_not_grow_with_the_network() -> None:
    small = trained()
    network, _ = grown(small, num_hidden_layers=12, hidden_size=384, num_attention_heads=24, intermediate_size=768)

    def norm(one: Network) -> float:
        nn.functional.cross_entropy(one(), IDS.roll(1)).backward()
        return float(torch.stack([weight.grad.norm() for weight in one.parameters() if weight.grad is not None]).norm())

    assert norm(network) < 4 * norm(small)


def test_other_widths_change_little_where_the_copies_are_a_sample() -> None:
    small = trained()
    network, _ = grown(small, hidden_size=192, num_attention_heads=12)
    with torch.no_grad():
        difference = (network() - small()).norm() / small().norm()
    assert 0 < difference < 0.3


def test_the_old_places_stay_and_new_ones_go_on() -> None:
    small = trained()
    network, _ = grown(small, max_length=40)
    table, old = (one.encoder.embeddings.position.weight.detach() for one in (network, small))
    assert torch.equal(table[: len(old)], old)
    assert torch.equal(table[len(old) :], continued(old[SMALL.position_offset :], 28))
    with torch.no_grad():
        torch.testing.assert_close(network(), small(), rtol=0, atol=1e-5)


def test_all_that_is_new_learns() -> None:
    """Within three steps of gradient descent: a part that writes zeros to what reads it with zeros would never move."""
    sizes = {"hidden_size": 192, "num_attention_heads": 12, "intermediate_size": 300, "num_hidden_layers": 3}
    network, _ = grown(trained(), **sizes)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(), IDS.roll(1)).backward()
        optimizer.step()
    for name, weight in network.state_dict().items():
        moved = (weight - before[name]).abs()
        new = moved[..., 128:] if name.endswith("norm.weight") or weight.ndim == 2 else moved
        assert new.max() > 1e-7, name
        assert moved[-1].max() > 1e-7, name


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_hidden_layers": 1}, "num_hidden_layers 1 is below the model's 2"),
        ({"hidden_size": 64, "num_attention_heads": 4}, "hidden_size 64 is below the model's 128"),
        ({"max_length": 8}, "max_length 8 is below the model's 12"),
        ({"hidden_size": 256}, "num_attention_heads 8 where heads as wide as the model's need 16 of hidden_size 256"),
        ({"num_attention_heads": 16}, "num_attention_heads 16 where .* need 8"),
    ],
)
def test_what_cannot_grow_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        grown(trained(), **sizes)
    assert caught.value.code == "cannot-grow"
