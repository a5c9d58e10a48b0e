"""The compiled kernels: a shared library in plain C for each kind of processor, beside this file."""

import ctypes
import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("unmask")

VARIANTS = {"avx512": "AVX-512", "avx2": "AVX2"}  # the fastest one first
SOURCES = Path(__file__).with_name("kernels")

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
_SIGNATURES: dict[str, list[type]] = {
    "unmask_create": [_INT, _INT, _INT, _INT, _FLOAT, _INT, _INT, _POINTER],
    "unmask_free": [_POINTER],
    "unmask_set_product": [_POINTER, _INT, _INT, _INT, _POINTER, _POINTER, _INT, _INT],
    "unmask_set_norm": [_POINTER, _INT, _INT, _POINTER, _POINTER],
    "unmask_set_tables": [_POINTER, _POINTER, _POINTER, _POINTER],
    "unmask_encode": [_POINTER, *[_POINTER] * 4, _INT, _POINTER, _INT, _POINTER, _POINTER],
}
_NO_RESULT = ("unmask_free", "unmask_set_tables")
_FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2}
# Bits that `unmask_isa` gives.
_BITS = {"float32": 1, "int8": 2, "bfloat16": 4}


@dataclass(frozen=True)
class Library:
    """The kernels as this processor can use them.

    Attributes:
        variant: `avx512` or `avx2`.
        calls: the functions of kernels/api.cpp.
        isa: the formats that run, as `unmask_isa` counts them.
        source: hash of what they were compiled from.
    """

    variant: str
    calls: ctypes.CDLL
    isa: int
    source: str

    def runs(self, precision: str) -> bool:
        """Whether products in `float32`, `bfloat16` or `int8` run on this processor."""
        return bool(self.isa & _BITS[precision])

    def attention_format(self, precision: str) -> int:
        """Number of the format of attention's products: bfloat16, or float32 where asked for or needed."""
        return _FORMATS["float32" if precision == "float32" or not self.runs("bfloat16") else "bfloat16"]

    @staticmethod
    def format(precision: str) -> int:
        """Number of a format, as kernels/tiles.h counts them."""
        return _FORMATS[precision]


@functools.cache
def library(variant: str | None = None) -> Library | None:
    """The kernels; `None` where they were not compiled, are stale, or the processor has neither AVX-512 nor AVX2.

    Args:
        variant: `avx512` or `avx2`; by default the fastest one that runs here.
    """
    found = (_load(one) for one in (VARIANTS if variant is None else [variant]))
    return next((one for one in found if one is not None), None)


def _load(variant: str) -> Library | None:
    path = Path(__file__).with_name(f"_kernels_{variant}.so")
    if not path.is_file():
        return None
    try:
        calls = ctypes.CDLL(str(path))
    except OSError as error:
        log.warning("%s cannot be loaded (%s) and is left out; what computes instead is slower", path.name, error)
        return None
    calls.unmask_source.restype = ctypes.c_char_p
    source = calls.unmask_source().decode()
    if SOURCES.is_dir() and source != source_hash(SOURCES):
        log.warning(
            "%s is older than its source and is left out; what computes instead is slower: install the package anew",
            path.name,
        )
        return None
    for name, arguments in _SIGNATURES.items():
        call = getattr(calls, name)
        call.argtypes = arguments
        call.restype = None if name in _NO_RESULT else _INT
    isa = int(calls.unmask_isa())
    return Library(variant, calls, isa, source) if isa else None


def source_hash(folder: Path) -> str:
    """What the kernels were compiled from, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.h"), *folder.glob("*.cpp")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
