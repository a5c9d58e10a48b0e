"""A corpus built on a ray cluster: the same bytes as here, whatever dies on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults.test_data_corpus import KILLED_BUILD
from tests.unit.data.corpora import content, write_text, write_tokenizer
from unmask.cli import main
from unmask.data import ray_pool
from unmask.data.corpus import Corpus, build
from unmask.data.encoding import Encoded, Encoder
from unmask.data.files import Document, read_documents
from unmask.data.pools import Batch, encode_in_order, in_processes
from unmask.errors import DataError, ResourceError
from unmask.tokenizer.load import Tokenizer

ray = pytest.importorskip("ray", reason="ray is an extra of 240 MB: pip install 'unmask[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One local ray of two workers for all tests, as `--ray local` starts it."""
    ray_pool.begin("local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")


@dataclass(frozen=True)
class Dies:
    """An encoder whose process is killed, once or always."""

    encoder: Encoder
    marker: Path
    is_once: bool

    def __call__(self, documents: list[Document]) -> Encoded:
        if not (self.is_once and self.marker.exists()):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.encoder(documents)


def batches(path: Path) -> list[Batch]:
    documents = list(read_documents([path]))
    return [Batch(documents[at : at + 3], np.full((3, 2), at)) for at in range(0, 12, 3)]


def test_the_same_bytes_come_out(
    cluster: None, tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.data.corpus.BATCH_CHARACTERS", 1500)
    texts = [write_text(tmp_path / f"{seed}.txt", num_documents=20, seed=seed) for seed in range(2)]
    for name, workers in (("here", None), ("ray", ray_pool.ray_tasks("local"))):
        build(texts, tokenizer_folder=tokenizer, output=tmp_path / name, processes=1, workers=workers, shard_tokens=700)
    assert content(tmp_path / "here") == content(tmp_path / "ray")
    assert Corpus.open(tmp_path / "here").fingerprint == Corpus.open(tmp_path / "ray").fingerprint
    assert ray.is_initialized(), "a cluster that was there before stays"


def test_an_interrupted_build_goes_on_elsewhere(cluster: None, tmp_path: Path, tokenizer: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=20)
    command = [sys.executable, "-c", KILLED_BUILD, "8", str(tokenizer), str(tmp_path / "corpus"), str(text)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    options = {"tokenizer_folder": tokenizer, "shard_tokens": 600}
    report = build([text], output=tmp_path / "corpus", workers=ray_pool.ray_tasks("local"), **options)
    assert report.num_resumed_shards == 1
    build([text], output=tmp_path / "whole", processes=1, **options)
    assert content(tmp_path / "corpus") == content(tmp_path / "whole")


def test_the_error_of_a_document_comes_back(cluster: None, tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(DataError) as caught:
        build([path], tokenizer_folder=tokenizer, output=tmp_path / "c", workers=ray_pool.ray_tasks("local"))
    assert (caught.value.code, caught.value.details["place"]) == ("lone-surrogate", f"{path}:3")
    assert type(caught.value) is DataError


def test_a_worker_that_dies_is_survived(cluster: None, tmp_path: Path, tokenizer: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=12)
    encoder = Encoder(Tokenizer.load(tokenizer))
    with in_processes(1)(encoder) as pool:
        expected = list(encode_in_order(batches(text), pool))
    with ray_pool.ray_tasks("local")(Dies(encoder, tmp_path / "died", True)) as pool:
        assert pool.size == 2
        found = list(encode_in_order(batches(text), pool))
    assert (tmp_path / "died").exists()
    for (places, one), (other_places, other) in zip(expected, found, strict=True):
        assert np.array_equal(places, other_places)
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Encoded.__slots__)


def test_workers_that_die_always_are_an_error(cluster: None, tmp_path: Path, tokenizer: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=12)
    always = Dies(Encoder(Tokenizer.load(tokenizer)), tmp_path / "died", False)
    with pytest.raises(ResourceError, match="worker-died"), ray_pool.ray_tasks("local")(always) as pool:
        list(encode_in_order(batches(text)[:1], pool))


def command(address: str, folder: Path, tokenizer: Path) -> subprocess.CompletedProcess[str]:
    """Build a small corpus with the command."""
    text = write_text(folder / "text.txt", num_documents=2)
    words = ["corpus", "build", text, "--tokenizer", tokenizer, "--output", folder / "c", "--ray", address]
    code = "from unmask.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)


def test_another_process_joins_the_cluster(cluster: None, tmp_path: Path, tokenizer: Path) -> None:
    done = command("auto", tmp_path, tokenizer)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"corpus: {tmp_path / 'c'}  2 documents")


def test_a_cluster_that_is_not_there(tmp_path: Path, tokenizer: Path) -> None:
    done = command("127.0.0.1:1", tmp_path, tokenizer)
    assert done.returncode == 5, done.stderr
    assert "no-cluster" in done.stderr
    assert "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_ray_the_remedy_is_named(tmp_path: Path, tokenizer: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=2)
    code = "import sys; sys.modules['ray'] = None\nfrom unmask.cli import main; main()"
    words = ["corpus", "build", text, "--tokenizer", tokenizer, "--output", tmp_path / "c", "--ray", "local"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'unmask[ray]'" in done.stderr


def test_two_kinds_of_workers(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["corpus", "build", "x.txt", "--tokenizer", "t", "--output", "c", "--ray", "local", "--processes", "2"])
    assert end.value.code == 2
    assert "two-kinds-of-workers" in capfd.readouterr().err
