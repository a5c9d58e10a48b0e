"""Whatever a power failure leaves of a save, the run goes on from the old checkpoint or from the new one, whole."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch

from tests.faults import crash
from tests.faults.crash_states import Record, Tree, harvest, plant
from unmask.disk import Operation
from unmask.errors import ArtefactError
from unmask.train.checkpoints import Checkpoints


class Scene:
    """A run that has one checkpoint, of step 2, and saves another."""

    def __init__(self, root: Path, step: int, keep: int) -> None:
        self.root = root
        checkpoints = Checkpoints(root / "checkpoints", keep=keep)
        one = crash.train(crash.trainer(), 2)
        checkpoints.save(one, {"note": "old"})
        self.whole = {"old": crash.fingerprint(one)}
        crash.train(one, step)
        with torch.no_grad():
            one.task.head.out.bias.add_(1.0)  # so that a step that is saved again differs from itself
        self.whole["new"] = crash.fingerprint(one)
        self.before = harvest(root)
        self.operations = list(crash.operations(lambda: checkpoints.save(one, {"note": "new"})))

    def faults(self, operations: Iterable[Operation], scratch: Path) -> Iterator[str | None]:
        """What is wrong with each state that a crash within the operations may leave."""
        record, one = Record(self.before, operations, self.root), crash.trainer()
        for moment, tree in record.states():
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            yield self._fault(tree, scratch, one, is_done=moment == record.num_moments - 1)

    def _fault(self, tree: Tree, scratch: Path, one: crash.Trainer, *, is_done: bool) -> str | None:
        plant(tree, scratch)
        try:
            state = Checkpoints(scratch / "checkpoints", keep=1).restore(one)
        except ArtefactError as error:
            return error.reason
        if state is None:
            return "the run would start anew"
        if crash.fingerprint(one) != self.whole[state["note"]]:
            return "the weights are mixed"
        if is_done and state["note"] == "old":
            return "the save came to its end, but its checkpoint is gone"
        return None


@pytest.fixture(scope="module", params=[(4, 1), (4, 2), (2, 1)], ids=["a new step", "none deleted", "the same step"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with crash.in_memory(tmp_path_factory.mktemp("scene")) as folder:
        yield Scene(folder, *request.param)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with crash.in_memory(tmp_path) as folder:
        yield folder


def test_ck3_every_state_that_a_crash_may_leave_goes_on(scene: Scene, tmp_path: Path) -> None:
    faults = list(scene.faults(scene.operations, tmp_path / "state"))
    assert not [fault for fault in faults if fault is not None]
    assert len(faults) > 100


def test_ck3_a_run_saves_on_from_every_state(scene: Scene, tmp_path: Path) -> None:
    states = list(Record(scene.before, scene.operations, scene.root).states())
    for number, (_, tree) in enumerate(states[::7]):
        folder = tmp_path / str(number)
        folder.mkdir()
        plant(tree, folder)
        one, checkpoints = crash.trainer(), Checkpoints(folder / "checkpoints", keep=1)
        checkpoints.restore(one)
        saved = checkpoints.save(crash.train(one, 5), {})
        left = [path.name for path in saved.parent.iterdir() if not path.name.startswith("rejected")]
        assert left == [saved.name]


def _is_file(operation: Operation) -> bool:
    return operation.path.suffix in (".json", ".safetensors")


def _without(is_left_out: Callable[[Operation], bool]) -> Callable[[list[Operation]], list[Operation]]:
    return lambda operations: [one for one in operations if one.kind != "sync" or not is_left_out(one)]


def _deletes_first(operations: list[Operation]) -> list[Operation]:
    first = next(number for number, one in enumerate(operations) if one.target and one.target.name.startswith(".dead"))
    return operations[first:] + operations[:first]


@pytest.mark.parametrize(
    "break_it",
    [
        _without(_is_file),
        _without(lambda one: one.path.name.startswith(".staging")),
        _without(lambda one: one.path.name == "checkpoints"),
        _deletes_first,
    ],
    ids=["files are not flushed", "their folder is not", "its parent is not", "the old one goes first"],
)
def test_ck3_a_broken_protocol_is_found(tmp_path: Path, break_it: Callable[[list[Operation]], list[Operation]]) -> None:
    (tmp_path / "run").mkdir()
    scene = Scene(tmp_path / "run", 4, 1)
    assert any(scene.faults(break_it(scene.operations), tmp_path / "state"))
