"""The machine, once: device, number format, threads, seeds and ranks. Only this file reads the environment."""

import contextlib
import ctypes
import functools
import logging
import mmap
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unmask.errors import ResourceError

log = logging.getLogger("unmask")

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_DONTNEED = 4
# Flags of a page in /proc/self/pagemap, one word of 64 bits a page (proc(5)).
_IS_SHARED, _IS_SWAPPED, _IS_PRESENT = (np.uint64(1 << bit) for bit in (61, 62, 63))


@dataclass(frozen=True)
class Machine:
    """What the computation runs on.

    Attributes:
        device: `cpu` or `cuda:N`.
        dtype: number format of the matrix products, `torch.bfloat16` or `torch.float32`; weights stay fp32.
        threads: threads of one process on the CPU.
        name: processor or card, in words.
        note: why this number format was chosen.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    name: str
    note: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which forward passes of training run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


@functools.cache
def machine(dtype: str = "auto", device: str = "auto") -> Machine:
    """Look at this machine once and choose device and number format.

    Args:
        dtype: `auto`, `bfloat16` or `float32`; `auto` takes bfloat16 where a measured product is faster in it.
        device: `auto`, `cpu` or `cuda`; `auto` takes the GPU where there is one.

    Raises:
        ResourceError: a GPU was asked for by name, and there is none that can be used; or there are more processes than
            cards.
    """
    where = _device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else processor()
    if dtype != "auto":
        chosen, note = getattr(torch, dtype), "as asked"
    elif where.type == "cuda":
        # older cards compute in it too, by way of float32 and more slowly
        chosen = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        note = f"the card {'has' if chosen == torch.bfloat16 else 'lacks'} bfloat16"
    else:
        gain = _bfloat16_gain()
        chosen = torch.bfloat16 if gain > 1.2 else torch.float32
        note = f"bfloat16 products run at {gain:.1f}x the speed of float32 here"
    return Machine(where, chosen, torch.get_num_threads(), name, note)


def _device(asked: str) -> torch.device:
    """The processor, or this process's card, which becomes torch's current one."""
    is_there = torch.cuda.is_available()
    if asked == "cuda" and not is_there:
        raise ResourceError(
            "no-gpu",
            "this PyTorch is built without CUDA"
            if torch.version.cuda is None
            else f"no card, or no driver for CUDA {torch.version.cuda}, is found",
            value="device = cuda",
            remedy="leave the device at `auto` (--device, in training --machine.device), which uses the processor "
            "here; `unmask doctor` says what it is",
        )
    if asked == "cpu" or not is_there:
        return torch.device("cpu")
    cards = torch.cuda.device_count()
    if local_rank() >= cards:
        raise ResourceError(
            "too-few-gpus",
            f"this is process {local_rank()} of its host, counted from 0, and only {cards} cards are visible",
            value=f"LOCAL_RANK = {local_rank()}",
            expected="a card for each process",
            remedy=f"start {cards} processes a host (torchrun --nproc-per-node {cards}), show more cards by "
            "CUDA_VISIBLE_DEVICES, or take --machine.device cpu",
        )
    where = torch.device("cuda", local_rank())
    torch.cuda.set_device(where)
    return where


def upload(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor of the host on a device. A card takes it behind the work that it has, and the host does not wait.

    Only from page-locked memory do copies go like that; torch keeps it and hands it out again.
    """
    where = torch.device(device)
    if where.type != "cuda" or values.device.type != "cpu":
        return values.to(where)
    return values.pin_memory().to(where, non_blocking=True)


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cpu(threads: int | None = None) -> None:
    """Set this process up for long work on the CPU; call it before the first product.

    Torch is pinned to `threads`, or to the cores that this process may use, shared with the other ranks of the host.
    glibc is told to keep freed memory: it would give every large tensor back to the system and take it again page by
    page, a tenth of a training step.
    """
    torch.set_num_threads(threads or max(1, cpu_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 << 20)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch's operators take one thread where this thread calls them; others keep theirs.

    `torch.set_num_threads` would also say it to all threads that use torch for the first time meanwhile. Where torch
    has neither OpenMP nor MKL inside, nothing is done.
    """
    before, setters = torch.get_num_threads(), _own_thread_setters()
    if before == 1 or setters is None:
        yield
        return
    set_openmp, set_mkl = setters
    set_openmp(1)
    mkl_before = set_mkl(1)
    try:
        yield
    finally:
        set_openmp(before)
        set_mkl(mkl_before)


@functools.cache
def _own_thread_setters() -> tuple[Callable[[int], int], Callable[[int], int]] | None:
    """What sets the calling thread's number in OpenMP and in MKL; the second gives the number of before."""
    try:
        inside = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return inside.omp_set_num_threads, inside.MKL_Set_Num_Threads_Local  # in small letters it is Fortran's
    except (OSError, AttributeError):
        return None


def cache_folder() -> Path:
    """Where things are kept that can be made again: $XDG_CACHE_HOME or ~/.cache; it may not exist."""
    named = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(tempfile.gettempdir() if named.startswith("~") else named) / "unmask"  # an account without a home


def unload(tensors: Iterable[torch.Tensor]) -> None:
    """Let go of the memory of tensors that lie in a mapped file; they are read again from it when they are used.

    Nothing is lost: tensors with a page that was written to, or that belongs to no file, stay. The file itself stays in
    the system's cache.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if advise is None:
        return
    page = mmap.PAGESIZE
    with contextlib.suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pages:
        for tensor in tensors:
            first, end = tensor.data_ptr() // page, -(-(tensor.data_ptr() + tensor.nbytes) // page)
            flags = np.frombuffer(os.pread(pages.fileno(), 8 * (end - first), 8 * first), np.uint64)
            is_own = (flags & (_IS_PRESENT | _IS_SWAPPED)).astype(bool) & ~(flags & _IS_SHARED).astype(bool)
            if len(flags) == end - first and not is_own.any():
                advise(ctypes.c_void_p(first * page), ctypes.c_size_t((end - first) * page), _MADV_DONTNEED)


def trim_heap() -> None:
    """Give memory that was freed back to the system, where glibc kept it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def rank() -> int:
    """Number of this process in a distributed run, 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes of a distributed run, 1 alone; `torchrun` sets it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Number of this process on its host, 0 alone."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def seed_step(seed: int, step: int) -> None:
    """Set torch's generators as a pure function of (seed, step, rank), so that no random state is ever saved."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank() * 0x8CB92BA72F3D8DD7 + 1) % (1 << 63)
    torch.manual_seed(mixed)


class Stop:
    """Whether the run was asked to end.

    Attributes:
        asked: the signal that this process has got, at any moment.
        signal: what loops look at between two steps: set when all processes of the run know of it.
    """

    asked: int | None = None
    signal: int | None = None


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a flag; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def ask(number: int, _frame: object) -> None:
        stop.asked = number
        log.info("asked to stop: saving after this step (once more: stop at once)")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bfloat16_gain(size: int = 512, repeats: int = 5) -> float:
    """Measured speed of a bfloat16 product over a float32 one of the same shape, median of `repeats`."""

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            taken.append(time.perf_counter() - start)
        return sorted(taken)[repeats // 2]

    return seconds(torch.float32) / seconds(torch.bfloat16)


def processor() -> str:
    """Name of the processor."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
