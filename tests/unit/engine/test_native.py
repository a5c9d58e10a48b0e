"""The compiled kernels against the readable network, in every precision, shape and batch."""

import copy
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.engine import compiled
from unmask.engine.compiled import SOURCES, VARIANTS, Library, library, source_hash
from unmask.engine.native import NativeEncoder
from unmask.engine.portable import change_products
from unmask.errors import ResourceError
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout

Inputs = tuple[torch.Tensor, torch.Tensor, Layout]

EXACT = 5e-6  # float32 sums of another order, hidden states of size 1
NEAR = {"bfloat16": 2e-2, "int8": 5e-2}  # weights here are large: 8 bits of mantissa, 7 bits of a row's range


# Which kernels compute in which precision.
LOWER = [("avx512", "bfloat16"), ("avx512", "int8"), ("avx2", "int8")]
EVERY = [("avx512", "float32"), ("avx2", "float32"), *LOWER]
FORMATS = {variant: [one for name, one in EVERY if name == variant] for variant in VARIANTS}


def kernels_of(variant: str) -> Library:
    found = library(variant)
    if found is None or not all(found.runs(one) for one in FORMATS[variant]):
        pytest.skip(f"this processor cannot run all kernels of {variant}")
    return found


@pytest.fixture(params=VARIANTS)
def kernels(request: pytest.FixtureRequest) -> Library:
    return kernels_of(request.param)


def encoder(seed: int = 0, **sizes: int) -> Encoder:
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 128} | sizes
    made = Encoder(EncoderConfig(vocab_size=50, max_length=300, **shape)).eval()
    made.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():  # biases and norms away from 0 and 1, weights large enough to matter
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def inputs(*lengths: int, offset: int = 2, seed: int = 0) -> Inputs:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = torch.from_numpy(np.random.default_rng(seed).integers(3, 50, starts[-1]))
    positions = torch.cat([torch.arange(length) + offset for length in lengths])
    return ids, positions, Layout.of(starts)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("c++") is None, reason="no compiler")
@pytest.mark.parametrize(("variant", "flag"), [("avx512", "avx512_vnni"), ("avx2", "avx2")])
def test_the_kernels_were_compiled_when_the_package_was_installed(variant: str, flag: str) -> None:
    if flag not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"no {flag}")
    found = library(variant)
    assert found is not None
    assert found.calls.unmask_source().decode() == source_hash(SOURCES)


def test_a_wheel_takes_the_kernels_of_all_variants() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["hatch"]["build"]["targets"]["wheel"]["artifacts"]
    for variant in VARIANTS:
        assert any(fnmatch(f"src/unmask/engine/_kernels_{variant}.so", one) for one in patterns)


def test_the_fastest_variant_that_runs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"avx512", "avx2"}
    monkeypatch.setattr(compiled, "_load", lambda variant: variant if variant in runs else None)
    taken = library.__wrapped__
    assert taken() == "avx512"
    assert taken("avx2") == "avx2"
    runs.remove("avx512")
    assert taken() == "avx2"
    assert taken("avx512") is None
    runs.clear()
    assert taken() is None


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_no_instruction_of_avx512_runs_where_there_may_be_none() -> None:
    """A processor that has AVX-512 does not notice. EVEX begins with the byte 62; masks are the registers k0 to k7."""
    path = Path(kernels_of("avx2").calls._name)
    text = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
    functions = [one for one in text.split("\n\n") if ">:\n" in one]
    beyond = [one for one in functions if re.search(r":\t62 |%k[0-7]|%zmm", one)]
    assert beyond, "tiles of int8 in the encoding of AVX-512"
    assert all("vpdpbusd" in one for one in beyond), "nothing else"
    assert any("vpdpbusd" in one for one in functions if one not in beyond), "and the same in AVX-VNNI's"


SHAPES = [
    {},
    {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    {"hidden_size": 60, "num_attention_heads": 3, "intermediate_size": 130},  # nothing is a multiple of a vector
    {"hidden_size": 42, "num_attention_heads": 6, "intermediate_size": 70},  # 7 numbers a head
    {"hidden_size": 160, "num_attention_heads": 2, "intermediate_size": 2050},  # 80 numbers a head, depth in two parts
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lengths", [(1,), (3, 17, 1, 64), (130, 65, 66, 5), (300,)], ids=str)
def test_float32_equals_the_network(kernels: Library, shape: dict[str, int], lengths: tuple[int, ...]) -> None:
    slow = encoder(**shape)
    batch = inputs(*lengths)
    needed = torch.from_numpy(np.cumsum(lengths) - 1)
    with torch.inference_mode():
        for threads in (1, 2):
            fast = NativeEncoder(slow, kernels, "float32", threads=threads)
            torch.testing.assert_close(fast(*batch), slow(*batch), atol=EXACT, rtol=EXACT)
            torch.testing.assert_close(fast(*batch, needed=needed), slow(*batch, needed=needed), atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize(("kernels", "precision"), LOWER, indirect=["kernels"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_low_precision_equals_the_twin_in_torch(kernels: Library, precision: str, shape: dict[str, int]) -> None:
    shape = shape | {"num_hidden_layers": 1}  # each further layer turns a rounding into more of them
    batch = inputs(5, 90, 33, 2)
    with_float_attention = replace(kernels, isa=kernels.isa if precision == "bfloat16" else 3)
    fast = NativeEncoder(encoder(**shape), with_float_attention, precision, threads=2)
    with torch.inference_mode():
        exact = encoder(**shape)(*batch)
        twin = change_products(encoder(**shape), precision)(*batch)
        found = fast(*batch)
    noise = (twin - exact).norm() / exact.norm()
    assert 0 < noise < NEAR[precision]
    # int8: only a rounding to the next number now and then; bfloat16: attention's products are bfloat16 too
    assert (found - twin).norm() / exact.norm() < noise * (0.1 if precision == "int8" else 1.5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_variants_give_the_same_bits(precision: str, shape: dict[str, int]) -> None:
    slow = encoder(**shape)
    for layer in slow.layers:
        signs = torch.rand(layer.up.bias.shape, generator=torch.Generator().manual_seed(1)) - 0.5
        layer.up.bias.data = signs.sign() * 30  # GELU gives x or 0 there; in between AVX-512 estimates 1 / x
    batch = inputs(5, 90, 33, 2)
    with torch.inference_mode():
        one, other = (
            NativeEncoder(slow, replace(kernels_of(variant), isa=3), precision, threads=1)(*batch)
            for variant in VARIANTS
        )
    assert torch.equal(one, other)
    assert one.isfinite().all()


def test_products_can_be_kept_more_exact(kernels: Library) -> None:
    slow, batch = encoder(), inputs(9, 40)
    names = [f"{layer}.{name}" for layer, name in itertools.product(range(3), ("qkv", "attention_out", "up", "down"))]
    with torch.inference_mode():
        exact = slow(*batch)
        errors = [
            (
                NativeEncoder(slow, kernels, "int8", threads=1, keep=dict.fromkeys(kept, "float32"))(*batch) - exact
            ).norm()
            for kept in ([], names[:6], names)
        ]
        twin = change_products(encoder(), "int8", keep=dict.fromkeys(names, "float32"))(*batch)
    assert errors[0] > errors[1] > errors[2]
    torch.testing.assert_close(twin, exact, atol=0, rtol=0)


@pytest.mark.parametrize(("kernels", "precision"), EVERY, indirect=["kernels"])
def test_an_answer_is_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads(
    kernels: Library, precision: str
) -> None:
    slow = encoder(hidden_size=128, num_attention_heads=2, intermediate_size=256)
    lengths = (7, 200, 31, 64, 1, 12, 90)
    ids, positions, layout = inputs(*lengths)
    ends = np.cumsum(lengths)
    with torch.inference_mode():
        wanted = NativeEncoder(slow, kernels, precision, threads=1)(ids, positions, layout)
        for threads in (1, 2, 3):
            fast = NativeEncoder(slow, kernels, precision, threads=threads)
            assert torch.equal(fast(ids, positions, layout), wanted)
            for end, length in zip(ends, lengths, strict=True):
                own = slice(end - length, end)
                assert torch.equal(fast(ids[own], positions[own], Layout.of(np.array([0, length]))), wanted[own])


def test_every_layer_can_be_seen(kernels: Library) -> None:
    slow, batch = encoder(), inputs(5, 30)
    with torch.inference_mode():
        fast = NativeEncoder(slow, kernels, "float32", threads=2).hidden_states(*batch)
        torch.testing.assert_close(fast, slow.hidden_states(*batch), atol=EXACT, rtol=EXACT)


def test_token_types(kernels: Library) -> None:
    slow, (ids, positions, layout) = encoder(type_vocab_size=2), inputs(5, 30)
    types = torch.arange(35) % 2
    with torch.inference_mode():
        found = NativeEncoder(slow, kernels, "float32", threads=2)(ids, positions, layout, token_type_ids=types)
        wanted = slow(ids, positions, layout, token_type_ids=types)
    torch.testing.assert_close(found, wanted, atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@torch.inference_mode()
def test_int8_does_not_hide_numbers_that_are_not_finite(kernels: Library, value: float) -> None:
    slow = encoder()
    slow.layers[0].up.bias[3] = value
    found = NativeEncoder(slow, kernels, "int8", threads=1)(*inputs(5, 9))
    assert not found.isfinite().any()


@torch.inference_mode()
def test_int8_of_rows_that_are_all_alike(kernels: Library) -> None:
    """All zeros, and numbers too small to be told apart: neither divides by nothing."""
    for bias in (0.0, 1e-39):
        slow = encoder()
        for layer in slow.layers:
            layer.up.weight.zero_()
            layer.up.bias.fill_(bias)
        batch = inputs(5, 9)
        wanted = change_products(copy.deepcopy(slow), "int8")(*batch)
        found = NativeEncoder(slow, kernels, "int8", threads=1)(*batch)
        assert (found - wanted).abs().mean() < NEAR["int8"]


def test_many_batches_of_changing_size_and_a_fork(kernels: Library) -> None:
    slow = encoder()
    fast = NativeEncoder(slow, kernels, "float32", threads=3)
    with torch.inference_mode():
        for seed in range(60):
            lengths = np.random.default_rng(seed).integers(1, 40, 1 + seed % 7)
            batch = inputs(*lengths, seed=seed)
            torch.testing.assert_close(fast(*batch), slow(*batch), atol=EXACT, rtol=EXACT)
    child = os.fork()
    if child == 0:  # its threads are gone; the pass goes on with the one that is left
        with torch.inference_mode():
            os._exit(int(not torch.equal(fast(*batch), fast(*batch))))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("change", "what"),
    [({"input_ids": 50}, "token id"), ({"input_ids": -1}, "token id"), ({"position_ids": 400}, "position")],
)
def test_nothing_is_read_outside_the_tables(kernels: Library, change: dict[str, int], what: str) -> None:
    ids, positions, layout = inputs(4)
    changed = {"input_ids": ids, "position_ids": positions}
    for name, value in change.items():
        changed[name] = changed[name].clone()
        changed[name][1] = value
    fast = NativeEncoder(encoder(), kernels, "float32", threads=1)
    with pytest.raises(ValueError, match=what), torch.inference_mode():
        fast(**changed, layout=layout)
    with pytest.raises(ValueError, match="301 tokens"), torch.inference_mode():
        fast(*inputs(301))


def test_a_format_that_the_processor_lacks_is_refused(kernels: Library) -> None:
    old = replace(kernels, isa=1)
    assert not old.runs("int8")
    assert old.runs("float32")
    with pytest.raises(ResourceError, match="int8"):
        NativeEncoder(encoder(), old, "int8", threads=1)
    with torch.inference_mode():  # VNNI but no bfloat16: attention is float32 then
        batch = inputs(9, 50)
        found = NativeEncoder(encoder(), replace(kernels, isa=3), "int8", threads=1)(*batch)
        assert (found - encoder()(*batch)).norm() / found.norm() < NEAR["int8"]


_FEW_THREADS = """
import resource, sys, torch
sys.path.insert(0, {root!r})
from tests.unit.engine.test_native import encoder, inputs
from unmask.engine.compiled import library
from unmask.engine.native import NativeEncoder
kernels = library({variant!r})
one, batch = NativeEncoder(encoder(), kernels, "float32", threads=1), inputs(40, 40, 9, 200)
with torch.inference_mode():
    wanted = one(*batch)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 28), size + (1 << 28)))
    assert torch.equal(NativeEncoder(encoder(), kernels, "float32", threads=500)(*batch), wanted)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the size of this process")
def test_threads_that_the_system_does_not_give_are_not_missed(kernels: Library) -> None:
    """Their stacks alone would take more than the 256 MB that are left."""
    code = _FEW_THREADS.format(root=str(Path(__file__).parents[3]), variant=kernels.variant)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
