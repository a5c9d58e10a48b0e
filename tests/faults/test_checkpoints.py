"""Runs that die, find no room, or share a disk with others; the names are those of the rows of the fault matrix."""

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.faults import crash
from unmask import disk, storage
from unmask.errors import ResourceError, UnmaskError, UsageError
from unmask.train.checkpoints import Checkpoints
from unmask.train.run import Run
from unmask.train.settings import PretrainSettings

STEPS = crash.straight(16)
KILLED = -signal.SIGKILL


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with crash.in_memory(tmp_path) as folder:
        yield folder


def saved(folder: Path, *steps: int, keep: int = 1) -> Path:
    """A folder of checkpoints."""
    one, checkpoints = crash.trainer(), Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(crash.train(one, step), {"note": "old"})
    return folder


def resumed(folder: Path, keep: int = 1) -> crash.Trainer:
    """A trainer that goes on from a folder of checkpoints; what it takes over is whole."""
    one = crash.trainer()
    assert Checkpoints(folder, keep=keep).restore(one) is not None
    assert crash.fingerprint(one) == STEPS[one.step]
    return one


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ck1_a_death_at_any_change_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PART_BYTES", crash.PART_BYTES)
    base = saved(tmp_path / "base", 2)
    whole = Path(shutil.copytree(base, tmp_path / "whole"))
    one = crash.train(resumed(whole), 4)
    operations = list(crash.operations(lambda: Checkpoints(whole, keep=1).save(one, {})))
    assert {operation.kind for operation in operations} == {
        "make", "create", "write", "sync", "rename", "unlink", "remove"
    }  # fmt: skip
    stands = next(number for number, operation in enumerate(operations) if operation.kind == "rename")
    for number in range(len(operations)):
        folder = Path(shutil.copytree(base, tmp_path / str(number)))
        assert crash.run(crash.go_on_and_die, folder, 4, number) == KILLED
        one = resumed(folder)
        assert one.step == (4 if number > stands else 2), operations[number]
        assert crash.fingerprint(crash.train(one, 6)) == STEPS[6]
        Checkpoints(folder, keep=1).save(one, {})
        assert names(folder) == ["step-000000006"]


def test_ck14_a_death_while_a_step_is_saved_again(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", 4)
    numbers = itertools.count(18)
    while True:
        folder = Path(shutil.copytree(base, tmp_path / str(number := next(numbers))))
        code = crash.run(crash.go_on_and_die, folder, 4, number)
        one = crash.trainer()
        state = Checkpoints(folder, keep=1).restore(one)
        assert state is not None
        assert crash.fingerprint(one) == STEPS[4]
        if code == 0:
            assert state["note"] == "new"
            break
        assert code == KILLED
    assert number > 25


def _after_progress(process: ForkServerProcess, folder: Path) -> None:
    """Wait until a process has ended or written a checkpoint."""
    before = set(folder.glob("step-*"))
    while process.is_alive() and set(folder.glob("step-*")) <= before:
        time.sleep(0.002)


@pytest.mark.parametrize("kills", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_ck2_random_kills_of_a_pre_training(tmp_path: Path, kills: int) -> None:
    corpus = crash.pretraining_corpus(tmp_path)
    straight = tmp_path / "straight"
    assert crash.run(crash.pretrain_on, corpus, straight) == 0
    expected = _results(straight)
    assert len(expected) == 4
    rng, runs, done = random.Random(0), itertools.count(), 0
    output = tmp_path / f"run-{next(runs)}"
    while done < kills:
        process = crash.start(crash.pretrain_on, corpus, output)
        if done % 5:
            _after_progress(process, output / "checkpoints")
            process.join(rng.uniform(0, 0.08))
        else:
            process.join(rng.uniform(0, 0.3))
        if process.is_alive():
            process.kill()
            process.join()
            done += 1
        elif process.exitcode == 0:
            assert _results(output) == expected
            output = tmp_path / f"run-{next(runs)}"
        assert process.exitcode in (0, KILLED)
    assert crash.run(crash.pretrain_on, corpus, output) == 0
    assert _results(output) == expected


def _results(output: Path) -> dict[str, object]:
    last = crash.files(output / "checkpoints/step-000000060")
    with Run.open(output, crash.PRETRAIN, storage.read_json(output / "inputs.json")) as run:
        return {
            "weights": last["model.safetensors"],
            "moments": last["optimizer.safetensors"],
            "model": (run.model / "model.safetensors").read_bytes(),
            "losses": [event["loss"] for event in run.events("step")],
        }


def _fill_the_disk(folder: Path) -> None:
    """Save again and again, each time with room for a few more bytes in a file; in a process of its own."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old, one = crash.files(folder), crash.train(resumed(folder), 4)
    checkpoints = Checkpoints(folder, keep=1)
    largest = max(len(data) for data in crash.files(folder).values())
    for limit in [*range(0, 600, 30), *range(600, largest, 997)]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(ResourceError) as caught:
            checkpoints.save(one, {})
        assert caught.value.code == "disk-full"
        assert "step-000000004" in str(caught.value.details["place"])
        assert "bytes are free" in str(caught.value.details["value"])
        assert crash.files(folder) == old
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    checkpoints.save(one, {})


def test_ck4_the_disk_is_full_at_any_byte(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", 2)
    assert crash.run(_fill_the_disk, folder) == 0
    assert resumed(folder).step == 4


def _refuse(monkeypatch: pytest.MonkeyPatch, code: int, numbers: range, kind: str | None = None) -> None:
    """Let the disk refuse some of the changes to come."""
    counter = itertools.count()

    def act(operation: disk.Operation) -> None:
        if kind in (None, operation.kind) and next(counter) in numbers:
            raise OSError(code, os.strerror(code), str(operation.path))

    monkeypatch.setattr(disk, "watch", act)


@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EROFS, "disk-refuses")]
)
def test_ck4_ck6_the_disk_refuses_at_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    folder = saved(tmp_path / "run", 2)
    old, one = crash.files(folder), crash.train(resumed(folder), 4)
    for number in range(15):
        _refuse(monkeypatch, code, range(number, 1000))
        with pytest.raises(ResourceError) as caught:
            Checkpoints(folder, keep=1).save(one, {})
        assert caught.value.code == name
        assert crash.files(folder) == old
    monkeypatch.undo()
    Checkpoints(folder, keep=1).save(one, {})
    assert resumed(folder).step == 4


@pytest.mark.parametrize("kind", ["create", "write", "sync"])
def test_ck6_an_input_output_error_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(disk, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    path = tmp_path / "file"
    _refuse(monkeypatch, errno.EIO, range(3), kind)
    disk.write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert caplog.text.count("trying again") == 3
    _refuse(monkeypatch, errno.EIO, range(4), kind)
    with pytest.raises(ResourceError, match="disk-refuses"), disk.named_errors(path):
        disk.write_bytes(tmp_path / "other", b"whole")


def test_ck5_too_little_room_is_said_before_the_start(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", 1, 2, keep=2)
    free = disk.free_bytes(folder)
    before = time.perf_counter()
    with pytest.raises(ResourceError, match="disk-space") as caught:
        Checkpoints(folder / "not" / "yet", keep=1).check_space(free // 2)
    assert time.perf_counter() - before < 2
    assert "bytes are free" in str(caught.value.details["value"])
    Checkpoints(folder, keep=2).check_space(free // 4)
    with pytest.raises(ResourceError, match="disk-space"):
        Checkpoints(folder, keep=7).check_space(free // 6)


def test_ck8_a_death_while_old_ones_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PART_BYTES", crash.PART_BYTES)
    base = saved(tmp_path / "base", 1, 2, 3, keep=3)
    whole = Path(shutil.copytree(base, tmp_path / "whole"))
    one = crash.train(resumed(whole), 4)
    operations = list(crash.operations(lambda: Checkpoints(whole, keep=1).save(one, {})))
    deaths = [number for number, operation in enumerate(operations) if operation.kind in ("unlink", "remove")]
    assert len(deaths) == 15
    for number in deaths:
        folder = Path(shutil.copytree(base, tmp_path / str(number)))
        assert crash.run(crash.go_on_and_die, folder, 4, number) == KILLED
        for name in names(folder):
            if not name.startswith(".dead"):
                storage.verify(folder / name)
        assert resumed(folder).step == 4
        assert not [name for name in names(folder) if name.startswith(".")]


def test_ck9_times_of_files_mean_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", 8, 9, 10, keep=9)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        for one in (path, *path.iterdir()):
            os.utime(one, (number * 1000, number * 1000))
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    for place in (folder, copied):
        assert resumed(place).step == 10
        Checkpoints(place, keep=2).save(crash.train(resumed(place), 11), {})
        assert names(place) == ["step-000000010", "step-000000011"]


@pytest.mark.parametrize("umask", [0o027, 0o002, 0o077])
def test_ck10_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = saved(tmp_path / "run", 1)
    finally:
        os.umask(before)
    paths = list(folder.rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o666 & ~umask}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *paths] if path.is_dir()} == {0o777 & ~umask}


def _slowly(begun: threading.Event, go_on: threading.Event) -> Callable[[disk.Operation], None]:
    def act(operation: disk.Operation) -> None:
        begun.set()
        assert go_on.wait(10)

    return act


def test_ck12_training_goes_on_while_a_step_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    one, checkpoints = crash.trainer(), Checkpoints(tmp_path / "run", keep=2, is_async=True)
    monkeypatch.setattr(disk, "watch", _slowly(begun, go_on))
    checkpoints.save(crash.train(one, 1), {})
    assert begun.wait(10)
    crash.train(one, 5)
    assert not list((tmp_path / "run").glob("step-*"))
    go_on.set()
    checkpoints.save(one, {})
    assert checkpoints.path(1).is_dir()
    checkpoints.wait()
    for step in (5, 1):
        assert resumed(tmp_path / "run").step == step
        shutil.rmtree(checkpoints.path(step))


def test_ck12_the_error_of_a_thread_is_raised_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, checkpoints = crash.trainer(), Checkpoints(tmp_path / "run", keep=2, is_async=True)
    _refuse(monkeypatch, errno.ENOSPC, range(5, 1000))
    checkpoints.save(one, {})
    with pytest.raises(ResourceError, match="disk-full"):
        checkpoints.save(one, {})
    checkpoints.wait()


def test_ck12_a_run_does_not_end_before_its_last_save_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Run.open(tmp_path / "run", PretrainSettings(), {}, is_async=True)
    run = opened.__enter__()
    _refuse(monkeypatch, errno.ENOSPC, range(5, 1000))
    run.save(crash.trainer(), {})
    with pytest.raises(ResourceError, match="disk-full"):
        opened.__exit__(None, None, None)


def test_ck12_a_death_while_saves_follow_each_other(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", 2)
    steps = set()
    for number in range(3, 200, 17):
        folder = Path(shutil.copytree(base, tmp_path / str(number)))
        assert crash.run(crash.overlap_and_die, folder, number) == KILLED
        steps.add(resumed(folder, keep=2).step)
    assert len(steps) > 4


@pytest.mark.parametrize("name", ["with space", "\u76ee\u5f55", "new\nline", "[a]*?", "-o", "%s"])
def test_ck13_any_name_of_a_folder_works(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        with Run.open(tmp_path / name, PretrainSettings(), {}) as run:
            one = crash.trainer()
            run.restore(one)
            run.save(crash.train(one, one.step + 1), {})
    with Run.open(tmp_path / name, PretrainSettings(), {}) as run:
        run.restore(one)
        assert crash.fingerprint(one) == STEPS[2]


def test_ck13_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "file").write_text("precious")
    for name in ("loop", "nowhere", "file", "loop/run", "file/run", "x" * 300):
        with pytest.raises(UnmaskError) as caught, Run.open(tmp_path / name, PretrainSettings(), {}):
            pass
        assert caught.value.code in ("not-a-folder", "disk-refuses")
        assert isinstance(caught.value, UsageError | ResourceError)
    assert (tmp_path / "file").read_text() == "precious"
