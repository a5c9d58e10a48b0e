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
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
# gcc takes the undefined operand inside its own intrinsics for a mistake.
FLAGS += ("-Wno-maybe-uninitialized", "-Wno-uninitialized")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
# A processor may lack these, so only the files that are called where it has them use them.
MORE = {"tiles_int8": ("-mavx512vnni",), "tiles_bfloat16": ("-mavx512bf16",), "rows_bfloat16": ("-mavx512bf16",)}


def compile_kernels() -> str | None:
    """Write _kernels.so beside its Python side; returns why not, if it could not."""
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform != "linux":
        return f"there are kernels for Linux on x86-64 only, not for {sys.platform} on {platform.machine()}"
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return "there is no C++ compiler"
    sources = sorted((ENGINE / "kernels").glob("*.cpp"))
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/{source.stem}.o" for source in sources]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            errors = [text for text in threads.map(_compile, [compiler] * len(sources), sources, objects) if text]
        if errors:
            return errors[0]
        library = f"{folder}/kernels.so"
        error = _call([compiler, "-shared", "-pthread", "-o", library, *objects])
        if error:
            return error
        shutil.copy(library, ENGINE / "_kernels.part")
    os.replace(ENGINE / "_kernels.part", ENGINE / "_kernels.so")
    return None


def source_hash() -> str:
    """As `unmask.engine.compiled.source_hash`, which looks whether the library is older than its source."""
    digest = hashlib.sha256()
    for path in sorted([*(ENGINE / "kernels").glob("*.h"), *(ENGINE / "kernels").glob("*.cpp")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, source: Path, target: str) -> str | None:
    extra = AVX512 if source.stem != "isa" else ()
    named = (f'-DUNMASK_SOURCE="{source_hash()}"',)
    return _call([compiler, *FLAGS, *extra, *MORE.get(source.stem, ()), *named, "-c", str(source), "-o", target])


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
            (ENGINE / "_kernels.so").unlink(missing_ok=True)
            try:
                reason = compile_kernels()
            except OSError as error:  # no such compiler, or a source tree that cannot be written
                reason = str(error)
            if reason is not None:
                self.app.display_warning(f"unmask: the kernels were not compiled, torch does their work: {reason}")
                return
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    sys.exit(compile_kernels())
