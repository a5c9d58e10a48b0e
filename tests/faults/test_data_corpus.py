"""A corpus build that is interrupted, starved or fed with other files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.data.corpora import content, write_text, write_tokenizer
from unmask import storage
from unmask.data.corpus import Corpus, build
from unmask.errors import ArtefactError, DataError, ResourceError, UnmaskError, UsageError

SHARD_TOKENS = 600

# Builds a corpus and kills itself at the n-th durable step: a file of a shard, a progress record, or the rename.
KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from unmask import storage
from unmask.data import corpus, shards

steps, left = ("_write", "write_text", "seal", "rename"), int(sys.argv[1])

def counted(function):
    def run(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return run

shards._write, storage.write_text, storage.seal = map(counted, (shards._write, storage.write_text, storage.seal))
Path.rename = counted(Path.rename)
corpus.BATCH_CHARACTERS = 1500
corpus.build(sys.argv[4:], tokenizer_folder=sys.argv[2], output=sys.argv[3], processes=1, shard_tokens=600)
"""


class Inputs:
    """Two files, a tokenizer and the corpus of an unbroken build."""

    def __init__(self, folder: Path) -> None:
        self.texts = [write_text(folder / f"{seed}.txt", num_documents=16, seed=seed) for seed in range(2)]
        self.tokenizer = write_tokenizer(folder / "tokenizer")
        self.build(folder / "whole")
        self.expected = content(folder / "whole")

    def build(self, output: Path, *, processes: int = 1, texts: list[Path] | None = None) -> object:
        return build(
            texts or self.texts,
            tokenizer_folder=self.tokenizer,
            output=output,
            processes=processes,
            shard_tokens=SHARD_TOKENS,
        )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("inputs"))


def killed(inputs: Inputs, output: Path, step: int) -> int:
    arguments = [str(step), str(inputs.tokenizer), str(output), *map(str, inputs.texts)]
    return subprocess.run([sys.executable, "-c", KILLED_BUILD, *arguments], check=False).returncode


@pytest.mark.parametrize("step", [1, 4, 5, 6, 9, 12, 15])
def test_tx11_killed_build_goes_on_to_the_same_bytes(tmp_path: Path, inputs: Inputs, step: int) -> None:
    output = tmp_path / "corpus"
    assert killed(inputs, output, step) == -signal.SIGKILL
    assert not output.exists()
    report = inputs.build(output)
    assert report.num_resumed_shards == (step - 1) // 5
    assert content(output) == inputs.expected
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_tx11_kill_at_every_late_step(tmp_path: Path, inputs: Inputs) -> None:
    # Behind the last shard: tokenizer files, manifest, rename. The first step that is never reached ends the loop.
    num_shards = len(Corpus.open(inputs.texts[0].parent / "whole").shards)
    codes = []
    for step in range(5 * num_shards + 1, 5 * num_shards + 9):
        output = tmp_path / f"corpus{step}"
        codes.append(killed(inputs, output, step))
        inputs.build(output)
        assert content(output) == inputs.expected
    assert codes == sorted(codes)
    assert codes[0] == -signal.SIGKILL
    assert codes[-1] == 0


def test_tx11_twice_killed_build(tmp_path: Path, inputs: Inputs) -> None:
    output = tmp_path / "corpus"
    for step in (7, 3, 8):
        assert killed(inputs, output, step) == -signal.SIGKILL
    assert inputs.build(output).num_resumed_shards == 2
    assert content(output) == inputs.expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_die_with_a_killed_build(tmp_path: Path, inputs: Inputs) -> None:
    big = write_text(tmp_path / "big.txt", num_documents=20_000, seed=3)
    code = (
        "import sys; from unmask.data.corpus import build\n"
        "build([sys.argv[1]], tokenizer_folder=sys.argv[2], output=sys.argv[3], processes=2)"
    )
    arguments = [str(big), str(inputs.tokenizer), str(tmp_path / "corpus")]
    running = subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)
    wait_for(lambda: len(group(running.pid)) >= 3)
    running.kill()
    running.wait()
    wait_for(lambda: not group(running.pid))


def group(leader: int) -> list[str]:
    """Living processes of a process group."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(status.parent.name)
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_same_command_again_does_nothing(tmp_path: Path, inputs: Inputs) -> None:
    output = tmp_path / "corpus"
    first = inputs.build(output)
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again = inputs.build(output)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.meta == first.meta
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == stamps


def test_other_inputs_into_a_finished_folder(tmp_path: Path, inputs: Inputs) -> None:
    output = tmp_path / "corpus"
    inputs.build(output)
    with pytest.raises(UsageError, match=r"files: their order|0\.txt \(missing now\)") as caught:
        inputs.build(output, texts=inputs.texts[1:])
    assert caught.value.code == "exists"
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="holds no corpus"):
        inputs.build(tmp_path / "folder")


def test_tx12_changed_inputs_on_restart(tmp_path: Path, inputs: Inputs) -> None:
    texts = [Path(shutil.copy(text, tmp_path)) for text in inputs.texts]
    arguments = ["8", str(inputs.tokenizer), str(tmp_path / "corpus"), *map(str, texts)]
    subprocess.run([sys.executable, "-c", KILLED_BUILD, *arguments], check=False)
    with texts[1].open("a") as file:
        file.write("more\n")
    with pytest.raises(UsageError, match=r"1\.txt") as caught:
        inputs.build(tmp_path / "corpus", texts=texts)
    assert caught.value.code == "changed-inputs"
    assert (tmp_path / ".building-corpus" / "progress.json").exists()


def test_tx12_file_that_grows_while_it_is_read(tmp_path: Path, inputs: Inputs) -> None:
    text = Path(shutil.copy(inputs.texts[0], tmp_path))

    def grow(done: int, total: int) -> None:
        if done == total:
            text.write_text(text.read_text() + "\n")

    with pytest.raises(DataError, match="changed while"):
        build([text], tokenizer_folder=inputs.tokenizer, output=tmp_path / "c", processes=1, on_progress=grow)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_tx6_error_names_the_document(tmp_path: Path, inputs: Inputs, processes: int) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(DataError) as caught:
        inputs.build(tmp_path / "corpus", texts=[path], processes=processes)
    assert (caught.value.code, caught.value.details["place"]) == ("lone-surrogate", f"{path}:3")


def test_tx1_bad_file_keeps_the_finished_shards(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.data.corpus.BATCH_CHARACTERS", 1500)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\n")
    for _ in range(2):
        with pytest.raises(DataError, match="wrong-encoding"):
            inputs.build(tmp_path / "corpus", texts=[*inputs.texts, bad])
    record = json.loads((tmp_path / ".building-corpus" / "progress.json").read_text())
    assert record["meta"]["shards"]


def test_tx4_no_text_at_all(tmp_path: Path, inputs: Inputs) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    (tmp_path / "b.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match="no-text"):
        inputs.build(tmp_path / "corpus", texts=[tmp_path / "a.txt", tmp_path / "b.jsonl"])
    assert not list(tmp_path.glob("*corpus*"))


def test_too_little_space(tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ResourceError, match="disk-space"):
        inputs.build(tmp_path / "corpus")


def test_full_disk_in_the_middle(tmp_path: Path, inputs: Inputs) -> None:
    code = (
        "import resource, signal, sys; from unmask.data.corpus import build\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))\n"
        "build(sys.argv[3:], tokenizer_folder=sys.argv[1], output=sys.argv[2], processes=1, shard_tokens=600)"
    )
    arguments = [str(inputs.tokenizer), str(tmp_path / "corpus"), *map(str, inputs.texts)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert "ResourceError" in done.stderr
    assert "disk-full" in done.stderr
    inputs.build(tmp_path / "corpus")
    assert content(tmp_path / "corpus") == inputs.expected


def test_tx12_output_inside_the_input(tmp_path: Path, inputs: Inputs) -> None:
    shutil.copy(inputs.texts[0], tmp_path)
    with pytest.raises(UsageError, match="output-in-input"):
        inputs.build(tmp_path / "corpus", texts=[tmp_path])


def test_two_builds_at_once(tmp_path: Path, inputs: Inputs) -> None:
    with storage.locked(tmp_path / ".building-corpus"), pytest.raises(UsageError, match=f"pid {os.getpid()}"):
        inputs.build(tmp_path / "corpus")


@pytest.mark.parametrize("name", ["tokens-00000.bin", "words-00001.bin", "documents-00000.bin", "sentences-00000.bin"])
def test_cut_corpus_does_not_open(tmp_path: Path, inputs: Inputs, name: str) -> None:
    folder = tmp_path / "corpus"
    inputs.build(folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="corrupt") as caught:
        Corpus.open(folder)
    assert caught.value.details["place"] == path


def test_flipped_bit_is_found_when_asked_for(tmp_path: Path, inputs: Inputs) -> None:
    folder = tmp_path / "corpus"
    inputs.build(folder)
    path = folder / "tokens-00000.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ArtefactError, match="content changed"):
        Corpus.open(folder, verify=True)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_damaged_records(tmp_path: Path, inputs: Inputs, text: str) -> None:
    inputs.build(tmp_path / "corpus")
    (tmp_path / "corpus" / "meta.json").write_text(text)
    with pytest.raises(ArtefactError):
        Corpus.open(tmp_path / "corpus")
    (tmp_path / ".building-other").mkdir()
    (tmp_path / ".building-other" / "progress.json").write_text(text)
    with pytest.raises(UnmaskError):
        inputs.build(tmp_path / "other")


def test_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        Corpus.open(tmp_path / "none")
    with pytest.raises(ArtefactError, match="no finished corpus"):
        Corpus.open(tmp_path)
