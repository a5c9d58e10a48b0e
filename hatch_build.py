"""Compiles the kernels of `unmask.engine` when the package is built or installed; without a compiler torch stands in.

`python hatch_build.py` compiles them into the source tree.
"""

import concurrent.futures
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENGINE = ROOT / "src" / "unmask" / "engine"
# Without contraction the sums are rounded as they are written, by every compiler and in every variant.
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra")
# gcc takes the undefined operand inside its own intrinsics for a mistake.
FLAGS += ("-Wno-maybe-uninitialized", "-Wno-uninitialized")
# One library each: in a single one the linker would keep one copy of what both take from the standard library.
VARIANTS = {
    "avx512": ("-DUNMASK_AVX512", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
}
# Files of some variants only. A processor may lack these instructions: such a file is called where it has them.
MORE = {
    "avx512": {
        "tiles_int8": ("-mavx512vnni",),
        "tiles_bfloat16": ("-mavx512bf16",),
        "rows_bfloat16": ("-mavx512bf16",),
    },
    "avx2": {
        "tiles_int8": ("-mavxvnni",),
        "tiles_int8_evex": ("-mavx512vl", "-mavx512vnni"),
        "no_bfloat16": (),
    },
}


def compile_kernels() -> str | None:
    """Write _kernels_VARIANT.so beside their Python side; returns why not, if one could not be compiled."""
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform != "linux":
        return f"there are kernels for Linux on x86-64 only, not for {sys.platform} on {platform.machine()}"
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return "there is no C++ compiler"
    errors = [error for error in (_compile_variant(compiler, variant) for variant in VARIANTS) if error]
    return errors[0] if errors else None


def _compile_variant(compiler: str, variant: str) -> str | None:
    some = {name for files in MORE.values() for name in files} - MORE[variant].keys()
    sources = [path for path in sorted((ENGINE / "kernels").glob("*.cpp")) if path.stem not in some]
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/{source.stem}.o" for source in sources]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            pairs = zip(sources, objects, strict=True)
            calls = [[compiler, *_flags(variant, one), "-c", str(one), "-o", target] for one, target in pairs]
            errors = [text for text in threads.map(_call, calls) if text]
        library = f"{folder}/kernels.so"
        error = errors[0] if errors else _call([compiler, "-shared", "-pthread", "-o", library, *objects])
        if error:
            return error
        shutil.copy(library, ENGINE / "_kernels.part")
    os.replace(ENGINE / "_kernels.part", ENGINE / f"_kernels_{variant}.so")
    return None


def source_hash() -> str:
    """As `unmask.engine.compiled.source_hash`, which looks whether the library is older than its source."""
    digest = hashlib.sha256()
    for path in sorted([*(ENGINE / "kernels").glob("*.h"), *(ENGINE / "kernels").glob("*.cpp")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _flags(variant: str, source: Path) -> tuple[str, ...]:
    own = VARIANTS[variant]
    if source.stem == "isa":  # it runs on every processor
        own = tuple(flag for flag in own if flag.startswith("-D"))
    return (*FLAGS, *own, *MORE[variant].get(source.stem, ()), f'-DUNMASK_SOURCE="{source_hash()}"')


def _call(command: list[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True)
    return f"{' '.join(command)} failed:\n{done.stderr[-2000:]}" if done.returncode else None


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    pass
else:

    class KernelsHook(BuildHookInterface):
        """Compiles before the files are gathered."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict) -> None:
            """Compile, and mark the wheel as made for this platform where that worked."""
            if self.target_name != "wheel":
                return
            for old in ENGINE.glob("_kernels*.so"):
                old.unlink()
            try:
                reason = compile_kernels()
            except OSError as error:  # no such compiler, or a source tree that cannot be written
                reason = str(error)
            if reason is not None:
                self.app.display_warning(f"unmask: not all kernels were compiled, torch does their work: {reason}")
            if not any(ENGINE.glob("_kernels_*.so")):
                return
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    sys.exit(compile_kernels())
