"""Folders appear whole or not at all, and no changed byte passes unseen."""

import json
import os
import random
import resource
import socket
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from unmask import disk, storage
from unmask.errors import ArtefactError, ResourceError, UsageError


def _folder(path: Path) -> Path:
    with storage.staged(path) as staging:
        (staging / "sub").mkdir()
        (staging / "a.bin").write_bytes(random.Random(0).randbytes(5000))
        (staging / "sub" / "b.txt").write_text("hello\n")
    return path


def _fail_inside(target: AbstractContextManager[Path]) -> None:
    with target as staging:
        (staging / "new.txt").write_text("n")
        raise RuntimeError("boom")


def test_a_staged_folder_appears_whole_and_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with storage.staged(folder) as staging:
        assert not folder.exists()
        (staging / "a.txt").write_text("a")
    assert sorted(path.name for path in folder.iterdir()) == [storage.MANIFEST, "a.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    storage.verify(folder)


def test_a_failure_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        _fail_inside(storage.staged(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "out")
    with pytest.raises(UsageError) as caught, storage.staged(folder):
        pass
    assert caught.value.code == "exists"
    storage.verify(folder)


def test_replaced_swaps_and_keeps_the_old_one_on_failure(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "out")
    with pytest.raises(RuntimeError, match="boom"):
        _fail_inside(storage.replaced(folder))
    storage.verify(folder)
    assert (folder / "a.bin").exists()
    with storage.replaced(folder) as staging:
        (staging / "new.txt").write_text("n")
    storage.verify(folder)
    assert not (folder / "a.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_every_bit_flip_is_found(tmp_path: Path) -> None:
    folder, rng = _folder(tmp_path / "out"), random.Random(1)
    files = [folder / "a.bin", folder / "sub" / "b.txt"]
    for _ in range(300):
        path = rng.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(ArtefactError, match="content changed"):
            storage.verify(folder)
        path.write_bytes(good)
    storage.verify(folder)


def test_every_truncation_missing_and_extra_file_is_found(tmp_path: Path) -> None:
    folder, rng = _folder(tmp_path / "out"), random.Random(2)
    path = folder / "a.bin"
    good = path.read_bytes()
    for _ in range(100):
        path.write_bytes(good[: rng.randrange(len(good))])
        with pytest.raises(ArtefactError, match="bytes instead of"):
            storage.verify(folder)
    path.unlink()
    with pytest.raises(ArtefactError, match="missing"):
        storage.verify(folder)
    path.write_bytes(good)
    (folder / "extra.txt").write_text("x")
    with pytest.raises(ArtefactError, match=r"extra\.txt: not in the manifest"):
        storage.verify(folder)


def test_a_folder_can_be_sealed_again_after_a_death_behind_its_sealing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    storage.seal(tmp_path)
    (tmp_path / "a.txt").write_text("other")
    storage.seal(tmp_path)
    storage.verify(tmp_path)
    assert list(storage.read_json(tmp_path / storage.MANIFEST)["files"]) == ["a.txt"]


def test_everything_that_a_folder_holds_is_flushed_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[disk.Operation] = []
    monkeypatch.setattr(disk, "watch", log.append)
    _folder(tmp_path / "new" / "out")
    renamed = next(number for number, operation in enumerate(log) if operation.kind == "rename")
    flushed = [operation.path for operation in log[:renamed] if operation.kind == "sync"]
    staging = log[renamed].path
    assert {staging / name for name in ("a.bin", "sub/b.txt", storage.MANIFEST, "sub", "")} <= set(flushed)
    assert flushed.index(tmp_path) < flushed.index(staging / storage.MANIFEST) < flushed.index(staging)
    assert [(operation.kind, operation.path) for operation in log[renamed + 1 :]] == [("sync", tmp_path / "new")]


def test_a_retired_folder_loses_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "out")
    (tmp_path / ".dead-out").mkdir()  # of a process that died while it did the same
    (tmp_path / ".dead-out" / "half").touch()
    (folder / "link").symlink_to(tmp_path)
    seen: list[bool] = []
    monkeypatch.setattr(disk, "watch", lambda operation: seen.append(operation.kind == "unlink" and folder.exists()))
    storage.retire(folder)
    assert not list(tmp_path.iterdir())
    assert seen.index(True) == 0  # only the leftover goes while the folder has its name
    assert sum(seen) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {"a.bin": {}}}', '{"files": [1]}'])
def test_a_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    folder = _folder(tmp_path / "out")
    (folder / storage.MANIFEST).write_text(text)
    with pytest.raises(ArtefactError) as caught:
        storage.verify(folder)
    assert caught.value.code in ("bad-manifest", "corrupt")


def test_no_manifest_and_no_folder_are_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtefactError) as caught:
            storage.verify(folder)
        assert caught.value.code == "no-manifest"


def test_write_text_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    for text in ("one", "two \u4f60"):
        storage.write_text(path, text)
        assert path.read_text("utf-8") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]


def test_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        folder = _folder(tmp_path / "out")
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "a.bin").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_second_process_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from unmask import storage\n"
        "with storage.locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"pid {child.pid} on"), storage.locked(tmp_path):
            pass
        child.kill()
        child.wait()
    with storage.locked(tmp_path):
        pass


def test_ck11_staging_folders_of_the_dead_are_swept_and_of_the_living_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="unmask")
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    dead, living = (tmp_path / f".staging-out-{socket.gethostname()}-{pid}" for pid in (child.pid, os.getppid()))
    dead.mkdir()
    living.mkdir()
    _folder(tmp_path / "out")
    assert not dead.exists()
    assert living.exists()
    assert f"removed {dead}, left by a process that is dead" in caplog.text
    assert f"{living} belongs to process {os.getppid()}" in caplog.text


def _small_files(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from unmask import storage; from unmask.errors import ResourceError\n"
        "try:\n"
        "    with storage.staged(Path(sys.argv[1])) as staging: (staging / 'big').write_bytes(bytes(100_000))\n"
        "except ResourceError as error: print(error.code, error.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        preexec_fn=lambda: _small_files(50_000),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["disk-full", str(ResourceError.exit_code)]
    assert not list(tmp_path.iterdir())


def test_read_json_names_a_missing_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ArtefactError, match="missing-file"):
        storage.read_json(path)
    path.write_text("{")
    with pytest.raises(ArtefactError, match="bad-json"):
        storage.read_json(path)
    path.write_text(json.dumps({"a": 1}))
    assert storage.read_json(path) == {"a": 1}


def test_an_own_number_of_an_earlier_life_is_swept_and_another_host_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / f".staging-out-{socket.gethostname()}-{os.getpid()}"
    elsewhere = tmp_path / f".staging-out-elsewhere-{os.getpid()}"
    own.mkdir()
    (own / "half").write_text("written")
    elsewhere.mkdir()
    _folder(tmp_path / "out")
    storage.verify(tmp_path / "out")
    assert not (tmp_path / "out/half").exists()
    assert elsewhere.exists()


@pytest.mark.parametrize("is_new_there", [True, False])
def test_a_death_between_the_two_renames_loses_nothing(tmp_path: Path, is_new_there: bool) -> None:
    _folder(tmp_path / ".old-out")
    if is_new_there:
        (tmp_path / ".old-out").rename(tmp_path / ".new-out")
    before = storage.read_json(next(tmp_path.iterdir()) / storage.MANIFEST)
    with pytest.raises(RuntimeError), storage.replaced(tmp_path / "out"):
        raise RuntimeError
    storage.verify(tmp_path / "out")
    assert storage.read_json(tmp_path / "out" / storage.MANIFEST) == before
