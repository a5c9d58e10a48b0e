"""What a GPU computes, as far as it can be tried without one; the tests marked `gpu` do the rest."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.checkpoint import load_model, save_model
from unmask.data.batching import positions_of
from unmask.engine import choice, cuda_graphs
from unmask.engine.choice import Engine
from unmask.engine.cuda_graphs import SIZES, Buffers, GraphedEncoder, bounds_of
from unmask.engine.portable import PRODUCTS, Bfloat16Linear, change_products
from unmask.errors import ResourceError, UsageError
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout
from unmask.predict import Predictor
from unmask.runtime import Machine, upload

EXACT = 1e-5
# Probabilities of attention have 8 bits in one of the two passes.
NARROW = 0.03
ON_CARD = 2e-3
LENGTHS = ([5], [9, 4, 17, 30, 4], [8] * 8, [64, 64], [3, 3, 3])


def encoder(**changes: object) -> Encoder:
    made = Encoder(tiny.config(num_hidden_layers=3, **changes)).eval()
    made.init_weights(0)
    with torch.no_grad():
        for layer in made.layers:
            layer.qkv.weight.mul_(20)  # attention that looks at some tokens more than at others
    return made


def inputs(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Layout]:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = torch.randint(5, 100, (int(starts[-1]),), generator=torch.Generator().manual_seed(seed))
    return ids, positions_of(starts, 2), Layout.of(starts)


@torch.no_grad()
def encode(one: torch.nn.Module, lengths: list[int], **options: torch.Tensor) -> torch.Tensor:
    return one(*inputs(lengths), **options)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_what_stays_in_bfloat16_between_two_products_was_rounded_to_it(lengths: list[int]) -> None:
    exact = encode(encoder(), lengths)
    wide = encode(change_products(encoder(), "bfloat16"), lengths)
    narrow = encode(change_products(encoder(), "bfloat16", is_narrow=True), lengths)
    assert narrow.dtype == torch.float32
    assert not torch.equal(wide, exact)
    torch.testing.assert_close(narrow, wide, atol=NARROW, rtol=0)


def test_the_feed_forward_layer_gives_the_same_numbers_in_bfloat16() -> None:
    hidden, keep = torch.randn(9, 32), {"0.qkv": "float32", "0.attention_out": "float32"}
    wide, narrow = (change_products(encoder(), "bfloat16", keep=keep, is_narrow=on) for on in (False, True))
    layout = Layout.of(np.array([0, 9]))
    with torch.no_grad():
        found, expected = (one.layers[0](hidden, layout) for one in (narrow, wide))
    assert narrow.layers[0].up.is_narrow
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_product_that_is_kept_exact_reads_exact_numbers() -> None:
    keep = {"0.down": "float32", "1.attention_out": "float32", "2.qkv": "float32"}
    changed = change_products(encoder(), "bfloat16", keep=keep, is_narrow=True)
    narrow = {
        f"{number}.{name}"
        for number, layer in enumerate(changed.layers)
        for name in PRODUCTS
        if isinstance(product := getattr(layer, name), Bfloat16Linear) and product.is_narrow
    }
    assert narrow == {"0.qkv", "1.up", "2.up"}
    assert all(not isinstance(getattr(changed.layers[int(one[0])], one[2:]), Bfloat16Linear) for one in keep)
    assert encode(changed, [5, 9]).dtype == torch.float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [16, 512])
def test_bounds_have_one_shape_a_size(size: int, longest: int) -> None:
    limit = min(size, longest)
    for lengths in ([], [limit], [4] * (size // 8), [size // 2 - 1] if limit >= size // 2 else [limit - 1]):
        bounds = bounds_of(np.array(lengths, dtype=np.int64), size=size, longest=limit)
        assert bounds is not None
        assert (bounds.dtype, bounds.shape) == (np.int32, (size // 4 + 1,))
        assert (bounds[0], bounds[-1]) == (0, size)
        found = np.diff(bounds)
        assert found[: len(lengths)].tolist() == lengths
        assert 0 <= found.min() <= found.max() <= limit
    assert bounds_of(np.array([size + 1]), size=size, longest=limit) is None, "too long"
    assert bounds_of(np.array([1] * (size // 4)), size=size, longest=limit) is None, "too many"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("has_types", [False, True])
def test_buffers_give_what_the_encoder_gives(precision: str, has_types: bool) -> None:
    plain = change_products(encoder(type_vocab_size=2), precision, is_narrow=True)
    buffers = Buffers(plain, 128, has_types=has_types)
    for number, lengths in enumerate(LENGTHS):  # one after the other, each on the leavings of those before it
        ids, positions, layout = inputs(lengths, number)
        types = torch.arange(len(ids)) % 2 if has_types else None
        bounds = bounds_of(layout.lengths, size=128, longest=64)
        assert bounds is not None
        with torch.inference_mode(number % 2 == 0), torch.no_grad():
            buffers.fill(ids, positions, bounds, token_type_ids=types)
            found = buffers.encode()
            expected = plain(ids, positions, layout, token_type_ids=types)
        assert found.shape == (128, 32)
        assert torch.isfinite(found).all()
        tolerance = EXACT if precision == "float32" else NARROW
        torch.testing.assert_close(found[: len(ids)], expected, atol=tolerance, rtol=0)


class Played:
    """A recording that is computed anew each time, and overwrites what it gave before."""

    made: ClassVar[list[int]] = []

    def __init__(self, buffers: Buffers, pool: object) -> None:
        self.buffers, self.hidden = buffers, buffers.encode()
        self.made.append(buffers.size)

    def play(self) -> torch.Tensor:
        return self.hidden.copy_(self.buffers.encode())


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> GraphedEncoder:
    monkeypatch.setattr(cuda_graphs, "Recording", Played)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    Played.made.clear()
    made = GraphedEncoder(encoder()).eval()
    made._is_on_card = True
    return made


def test_a_size_is_recorded_once_and_not_for_a_single_batch(graphed: GraphedEncoder) -> None:
    for _ in range(4):
        for lengths in ([5], [20, 11], [30, 30]):
            torch.testing.assert_close(encode(graphed, lengths), encode(graphed.encoder, lengths), atol=EXACT, rtol=0)
    assert Played.made == [32, 64]


def test_an_answer_outlives_the_next_one(graphed: GraphedEncoder) -> None:
    first, again, other = (encode(graphed, lengths) for lengths in ([5, 9], [5, 9], [7]))
    kept = [encode(graphed, [5, 9]), encode(graphed, [5, 9], needed=torch.tensor([0, 5, 5]))]
    encode(graphed, [30])
    assert Played.made == [32]
    del again, other
    torch.testing.assert_close(kept[0], first, atol=EXACT, rtol=0)
    torch.testing.assert_close(kept[1], first[[0, 5, 5]], atol=EXACT, rtol=0)


def test_what_does_not_fit_is_computed_as_it_is(graphed: GraphedEncoder) -> None:
    graphed.train()
    many, long = [2] * 200, [64] * 9
    for _ in range(4):
        encode(graphed, [5])
    graphed.eval()
    for lengths in (many, long):
        for _ in range(4):
            torch.testing.assert_close(encode(graphed, lengths), encode(graphed.encoder, lengths), atol=EXACT, rtol=0)
    assert not Played.made
    with pytest.raises(ValueError, match="a text of 65 tokens"):
        encode(graphed, [65])


def test_threads_do_not_write_into_each_others_buffers(graphed: GraphedEncoder) -> None:
    expected = {size: encode(graphed.encoder, [size]) for size in (3, 7, 12, 20)}
    wrong: list[int] = []

    def ask(size: int) -> None:
        for _ in range(20):
            if not torch.allclose(encode(graphed, [size]), expected[size], atol=EXACT):
                wrong.append(size)

    threads = [threading.Thread(target=ask, args=(size,)) for size in expected]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_nothing_is_recorded_on_a_processor() -> None:
    assert GraphedEncoder(encoder())._size_of(inputs([5])[2]) == (0, None)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.dtype]]:
    """A machine with a card, which is the processor in disguise."""
    best = {"dtype": torch.bfloat16}

    def machine(dtype: str, device: str) -> Machine:
        assert device == "cuda"
        chosen = best["dtype"] if dtype == "auto" else getattr(torch, dtype)
        return Machine(torch.device("cpu"), chosen, 1, "a card", "")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(choice, "machine", machine)
    return best


def certified(folder: Path, engine: dict[str, object]) -> Path:
    task = tiny.classifier()
    model = load_model(tiny.saved(task, folder / "plain"))
    save_model(
        folder / "model", config=task.config, state_dict=task.state_dict(), tokenizer=task.tokenizer,
        head=task.head_name, labels=task.labels, card="", golden=None, meta=model.meta | {"engine": engine},
    )  # fmt: skip
    return folder / "model"


def test_a_certificate_of_bfloat16_holds_on_a_card_with_what_it_keeps(
    card: dict[str, torch.dtype], tmp_path: Path
) -> None:
    kept = {"engine": "native", "keep": {"0.down": "float32"}}
    folder = certified(tmp_path, {"bfloat16": kept, "int8": {"engine": "native"}})
    predictor = Predictor.load(folder)
    assert predictor.engine == Engine("torch", "bfloat16", 1, "on a card", {"0.down": "float32"})
    kinds = [isinstance(layer.down, Bfloat16Linear) for layer in predictor.task.encoder.layers]
    assert kinds == [False, True]
    assert predictor.task.head.dense.weight.dtype == torch.float32
    assert len(predictor(tiny.GOOD)) == len(tiny.GOOD)
    card["dtype"] = torch.float32
    assert Predictor.load(folder).engine.precision == "float32"  # type: ignore[union-attr]
    assert Predictor.load(folder, precision="bfloat16").engine.precision == "bfloat16"  # type: ignore[union-attr]


def test_a_certificate_whose_attention_was_exact_does_not_hold_on_a_card(
    card: dict[str, torch.dtype], tmp_path: Path
) -> None:
    folder = certified(tmp_path, {"bfloat16": {"engine": "torch"}})
    assert Predictor.load(folder).engine == Engine("torch", "float32", 1, "on a card")


def test_without_a_certificate_a_card_is_exact(card: dict[str, torch.dtype], tmp_path: Path) -> None:
    predictor = Predictor.load(tiny.saved(tiny.classifier(), tmp_path / "model"))
    assert predictor.engine == Engine("torch", "float32", 1, "on a card")


def test_int8_and_engines_of_the_processor_leave_the_card_alone(card: dict[str, torch.dtype], tmp_path: Path) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    for asked in ({"precision": "int8"}, {"engine": "torch", "device": "cpu"}):
        engine = Predictor.load(folder, threads=1, **asked).engine  # type: ignore[arg-type]
        assert engine is not None
        assert engine.note != "on a card"
    with pytest.raises(UsageError, match="'native' does not compute on a GPU"):
        Predictor.load(folder, device="cuda", engine="native")
    with pytest.raises(UsageError, match="no device 'gpu'"):
        Predictor.load(folder, device="gpu")
    with pytest.raises(ResourceError, match="int8"):
        Predictor.load(folder, device="cuda", precision="int8")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.inference_mode()
def test_recorded_passes_give_what_the_encoder_gives(precision: str) -> None:
    where = torch.device("cuda")
    plain = change_products(encoder().to(where), precision, is_narrow=True)
    graphed = GraphedEncoder(plain).eval()
    tolerance = ON_CARD if precision == "float32" else NARROW
    kept = []
    for number in range(12):
        for lengths in LENGTHS:
            ids, positions, layout = inputs(lengths, number)
            there = upload(ids, where), upload(positions, where), Layout.of(layout_bounds(layout), where)
            kept.append((graphed(*there), plain(*there)))
    assert {size for size, _ in graphed._recordings} == {32, 64, 128}
    for found, expected in kept:
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.gpu
@torch.inference_mode()
def test_bfloat16_on_a_card_is_that_of_the_processor() -> None:
    where = torch.device("cuda")
    for lengths in LENGTHS:
        ids, positions, layout = inputs(lengths)
        expected = change_products(encoder(), "bfloat16")(ids, positions, layout)
        card = change_products(encoder().to(where), "bfloat16", is_narrow=True)
        found = card(ids.to(where), positions.to(where), Layout.of(layout_bounds(layout), where))
        torch.testing.assert_close(found.cpu(), expected, atol=NARROW, rtol=0)


def layout_bounds(layout: Layout) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(layout.lengths)])
