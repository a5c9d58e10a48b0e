"""The compiled kernels: one shared library in plain C, found beside this file, used where the processor can run it."""

import ctypes
import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("unmask")

PATH = Path(__file__).with_name("_kernels.so")
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
# Bits that `unmask_isa` gives, and what each format takes.
_AVX512, _VNNI, _BF16 = 1, 2, 4
_NEEDED = {"float32": _AVX512, "bfloat16": _AVX512 | _BF16, "int8": _AVX512 | _VNNI}


@dataclass(frozen=True)
class Library:
    """The kernels as this processor can use them.

    Attributes:
        calls: the functions of kernels/api.cpp.
        isa: instruction sets of the processor, as `unmask_isa` counts them.
        source: hash of what they were compiled from.
    """

    calls: ctypes.CDLL
    isa: int
    source: str

    def runs(self, precision: str) -> bool:
        """Whether products in `float32`, `bfloat16` or `int8` run on this processor."""
        return self.isa & _NEEDED[precision] == _NEEDED[precision]

    def attention_format(self, precision: str) -> int:
        """Number of the format of attention's products: bfloat16, or float32 where asked for or needed."""
        return _FORMATS["float32" if precision == "float32" or not self.isa & _BF16 else "bfloat16"]

    @staticmethod
    def format(precision: str) -> int:
        """Number of a format, as kernels/tiles.h counts them."""
        return _FORMATS[precision]


@functools.cache
def library() -> Library | None:
    """The kernels; `None` where they were not compiled, are stale, or the processor has no AVX-512."""
    if not PATH.is_file():
        return None
    try:
        calls = ctypes.CDLL(str(PATH))
    except OSError as error:
        log.warning("the compiled kernels cannot be loaded (%s); torch computes instead, more slowly", error)
        return None
    calls.unmask_source.restype = ctypes.c_char_p
    source = calls.unmask_source().decode()
    if SOURCES.is_dir() and source != source_hash(SOURCES):
        log.warning(
            "the compiled kernels are older than their source; torch computes instead: install the package anew"
        )
        return None
    for name, arguments in _SIGNATURES.items():
        call = getattr(calls, name)
        call.argtypes = arguments
        call.restype = None if name in _NO_RESULT else _INT
    isa = int(calls.unmask_isa())
    return Library(calls, isa, source) if isa else None


def source_hash(folder: Path) -> str:
    """What the kernels were compiled from, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.h"), *folder.glob("*.cpp")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
