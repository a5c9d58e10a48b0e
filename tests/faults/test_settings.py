"""Settings, archives, places and clocks that are not as one would wish (rows CF of the fault matrix)."""

import io
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.unit.data.corpora import write_text, write_tokenizer
from tests.unit.tokenizer.samples import CHINESE
from unmask import runtime
from unmask.cli import main
from unmask.config import load_recipe, resolve
from unmask.data.corpus import build
from unmask.data.files import read_documents
from unmask.errors import DataError, ResourceError, UsageError
from unmask.train.run import clock
from unmask.train.settings import PretrainSettings

ROOT = Path(__file__).parents[2]
UNMASK = [sys.executable, "-c", "from unmask.cli import main; main()"]
SMALL = [
    "--max-steps", "2", "--block-length", "32", "--global-batch-size", "4", "--micro-batch-size", "4",
    "--eval-blocks", "4", "--model.num-hidden-layers", "1", "--model.hidden-size", "16",
    "--model.num-attention-heads", "1", "--model.intermediate-size", "16", "--machine.dtype", "float32",
    "--machine.threads", "1",
]  # fmt: skip


def ask(*words: object) -> int:
    """Run a command here; gives its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def recipe(folder: Path, text: str) -> Path:
    """A recipe of one's own."""
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_cf1_every_mistake_is_named_and_nothing_is_started(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, 'max_stepz = 3\nseed = "one"\nglobal_batch_size = 0\n[optim]\nlr = -1\n[modle]\nx = 1\n')
    assert ask("pretrain", "--corpus", tmp_path, "--output", tmp_path / "run", "--recipe", path) == 2
    talk = capfd.readouterr().err
    for part in ("'max_stepz'; did you mean 'max_steps'", "seed = 'one'", "global_batch_size = 0", "optim.lr = -1"):
        assert part in talk
    assert "unknown setting 'modle'" in talk
    assert "Traceback" not in talk
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    [
        "seed = 1\nseed = 2\n",
        "[optim]\nlr = 1e-3\n[optim]\nlr = 1e-4\n",
        "seed: !!python/object/apply:os.system ['touch canary']\n",
        "a: &a [x, x]\nb: &b [*a, *a]\n",
        "seed = 1, \x00\n",
    ],
)
def test_cf2_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="bad-recipe"):
        load_recipe(str(recipe(tmp_path, text)), "pretrain")
    assert not (tmp_path / "canary").exists()
    assert not Path("canary").exists()


def test_cf2_values_mean_what_they_look_like(tmp_path: Path) -> None:
    values = load_recipe(str(recipe(tmp_path, "seed = 1_000\n[optim]\nlr = 1e-4\n")), "pretrain")
    found = resolve(PretrainSettings, values)
    assert (found.seed, found.optim.lr) == (1000, 1e-4)
    for wrong in ('seed = "no"', "seed = 1.5", 'max_steps = "many"', "seed = true_"):
        with pytest.raises(UsageError):
            resolve(PretrainSettings, load_recipe(str(recipe(tmp_path, wrong)), "pretrain"))


OFFLINE = """
import socket, sys

class Refused(socket.socket):
    def __init__(self, family=socket.AF_INET, *args, **kwargs):
        assert family == socket.AF_UNIX, "a socket was opened"
        super().__init__(family, *args, **kwargs)

socket.socket = Refused
def no_name(*args, **kwargs):
    raise AssertionError("a name was looked up")
socket.getaddrinfo = socket.create_connection = no_name
from unmask.cli import main
for words in [line.split() for line in sys.stdin]:
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def test_cf3_the_whole_path_without_a_socket(tmp_path: Path) -> None:
    # The suite itself runs so, see tests/conftest.py; here not even this machine's own address may be used.
    write_text(tmp_path / "text.txt", num_documents=60)
    lines = [
        "tokenizer train text.txt --output tokenizer --vocab-size 300",
        "corpus build text.txt --tokenizer tokenizer --output corpus --processes 1",
        f"pretrain --corpus corpus --output run {' '.join(SMALL)}",
        "verify run/model",
        "predict the<mask> --model run/model",
    ]
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=tmp_path,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "MANIFEST.json").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cf4_without_a_gpu(tmp_path: Path) -> None:
    assert runtime.machine("float32", "auto").device.type == "cpu"
    with pytest.raises(ResourceError, match=r"no-gpu") as caught:
        runtime.machine("float32", "cuda")
    assert "CUDA" in caught.value.reason
    assert "auto" in str(caught.value.details["fix"])
    assert "--device, in training --machine.device" in str(caught.value.details["fix"])


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Two cards that cannot compute."""
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "set_device": lambda device: None,
        "get_device_name": lambda device: "a card",
        "is_bf16_supported": lambda including_emulation=True: including_emulation,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    runtime.machine.cache_clear()
    yield monkeypatch
    runtime.machine.cache_clear()


def test_cf4_a_card_that_only_emulates_bfloat16(cards: pytest.MonkeyPatch) -> None:
    found = runtime.machine("auto", "auto")
    assert (found.device.type, found.dtype) == ("cuda", torch.float32)
    assert "lacks bfloat16" in found.note
    cards.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    runtime.machine.cache_clear()
    assert runtime.machine("auto", "cuda").dtype == torch.bfloat16


def test_cf4_more_processes_than_cards(cards: pytest.MonkeyPatch) -> None:
    cards.setenv("LOCAL_RANK", "1")
    assert runtime.machine("float32", "cuda").device == torch.device("cuda", 1)
    runtime.machine.cache_clear()
    cards.setenv("LOCAL_RANK", "2")
    with pytest.raises(ResourceError, match=r"too-few-gpus") as caught:
        runtime.machine("float32", "auto")
    assert "--nproc-per-node 2" in str(caught.value.details["fix"])


def test_cf4_without_fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for gain, dtype in ((0.3, torch.float32), (9.0, torch.bfloat16)):
        monkeypatch.setattr(runtime, "_bfloat16_gain", lambda gain=gain: gain)
        runtime.machine.cache_clear()
        found = runtime.machine("auto", "cpu")
        assert found.dtype == dtype
        assert f"{gain:.1f}x" in found.note
    runtime.machine.cache_clear()


def packed(kind: str) -> bytes:
    """An archive whose members would be written outside of its folder, or through a link."""
    raw = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(raw, "w") as archive:
            archive.writestr("../../escaped.txt", "text")
        return raw.getvalue()
    with tarfile.open(fileobj=raw, mode="w:gz" if kind == "tar.gz" else "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        member = tarfile.TarInfo("../../escaped.txt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"text"))
    return raw.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_cf5_archives_with_members_are_not_unpacked(tmp_path: Path, kind: str) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (inside / f"text.{kind}").write_bytes(packed(kind))
    with pytest.raises(DataError) as caught:
        list(read_documents([inside]))
    assert caught.value.code == "binary"
    assert "archive" in caught.value.reason
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"text.{kind}"]


def test_cf5_many_members_cost_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"")
    begin = time.process_time()
    with pytest.raises(DataError, match="zip"):
        list(read_documents([tmp_path / "text.zip"]))
    assert time.process_time() - begin < 0.5


def bare(**changes: str) -> dict[str, str]:
    """An environment with next to nothing in it."""
    return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **changes}


@pytest.mark.parametrize(
    "surroundings",
    [
        {},
        {
            "LC_ALL": "C",
            "TZ": "Asia/Kathmandu",
            "HOME": "/nonexistent",
            "NO_COLOR": "1",
            "COLUMNS": "80",
            "LINES": "24",
        },
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "dumb"},
    ],
    ids=["empty", "odd", "ascii"],
)
def test_cf8_bare_surroundings(tmp_path: Path, surroundings: dict[str, str]) -> None:
    (tmp_path / "text.txt").write_text("\n".join(CHINESE * 3), "utf-8")
    package = {path: path.stat().st_mtime_ns for path in (ROOT / "src").rglob("*") if path.suffix != ".pyc"}
    for words in (
        ["--help"],
        ["tokenizer", "train", "text.txt", "--output", "tokenizer", "--vocab-size", "300"],
        ["tokenizer", "report", "text.txt", "--tokenizer", "tokenizer"],
        ["tokenizer", "train", "none\u5929.txt", "--output", "other", "--vocab-size", "300"],
    ):
        done = subprocess.run(
            [*UNMASK, *words], cwd=tmp_path, env=bare(**surroundings), capture_output=True, check=False
        )
        talk = (done.stdout + done.stderr).decode("utf-8")
        assert done.returncode == (3 if "other" in words else 0), talk
        assert "Traceback" not in talk
        assert "\x1b" not in talk
        assert all(len(line) <= 80 for line in done.stdout.decode("utf-8").splitlines()) or "--help" not in words
    assert "none" in talk
    assert package == {path: path.stat().st_mtime_ns for path in package}


def test_cf9_the_wheel_holds_the_package_and_runs_alone(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; without it pip would have to fetch it")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        archive.extractall(tmp_path / "site")
    tracked = subprocess.run(["git", "ls-files", "-z", "src"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {name.removeprefix("src/") for name in tracked.stdout.split("\0") if name}
    assert expected <= set(names)
    outside = [name for name in names if not name.startswith(("unmask/", "unmask-"))]
    assert outside == []
    assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert "License-Expression: Apache-2.0" in metadata
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert {"torch", "tokenizers", "cyclopts"} <= set(needed)
    assert all(version(name) for name in needed)
    code = f"import unmask; assert unmask.__file__.startswith({str(tmp_path)!r})\nfrom unmask.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"],
        cwd=tmp_path, env=bare(PYTHONPATH=str(tmp_path / "site")), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_cf10_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jumps = iter(range(10**6))
    # A month ahead and a month back at every look; what is measured must not be measured with this clock.
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + 2_592_000 * (-1) ** next(jumps))
    caplog.set_level("INFO", "unmask")
    text = write_text(tmp_path / "text.txt", num_documents=60)
    report = build([text], tokenizer_folder=write_tokenizer(tmp_path / "t"), output=tmp_path / "corpus", processes=1)
    assert 0 <= report.seconds < 600
    assert ask("pretrain", "--corpus", tmp_path / "corpus", "--output", tmp_path / "run", *SMALL, "--log-every", 1) == 0
    left = re.findall(r"(\S+) to go", caplog.text)
    assert len(left) == 2
    assert all(re.fullmatch(r"\d{1,2}s", one) for one in left)


def test_cf10_long_runs_are_told_in_hours() -> None:
    assert clock(30 * 86_400) == "720h00m"
    assert clock(0) == "0s"
    assert "-" not in clock(0.4)
