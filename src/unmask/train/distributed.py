"""Several processes as one run: sums over ranks, and a watch that names a rank that has died or hangs.

Started by `torchrun`, which sets ranks and addresses; alone, everything here does nothing.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unmask.errors import DistributedError, InterruptedRunError, NumericError
from unmask.runtime import Stop, world_size

log = logging.getLogger("unmask")

Strategy = Literal["ddp", "fsdp"]

SILENT_SECONDS = 15.0
_BEAT_SECONDS = 1.0
# What stands in the place of a heartbeat when a rank has ended.
_GONE, _FAILED = "gone", "failed: "
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: number of this one.
        world_size: how many there are.
        strategy: whether each holds all of the network (DDP) or a share of every matrix (FSDP2).
    """

    rank: int = 0
    world_size: int = 1
    strategy: Strategy = "ddp"

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up host numbers over the ranks; every rank gets the same bits."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        dist.broadcast(total, 0)
        return total.tolist()

    def same(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the first rank has computed, on all of them; computed twice, a tensor may differ in its last bits."""
        if self.world_size == 1:
            return tensor
        shared = tensor.detach().cpu().contiguous()
        dist.broadcast(shared, 0)
        return shared.to(tensor.device)

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        self.sum([0.0])

    def agree(self, stop: Stop) -> None:
        """Let all ranks know whether one of them was asked to stop; they all come here at the same point."""
        if self.sum([stop.asked is not None])[0]:
            stop.signal = stop.asked or signal.SIGTERM


ALONE = Ranks()
_JOINED: list[int] = []


def has_joined() -> bool:
    """Whether this process has ever been one of several.

    gloo's threads then outlive the group, which DDP and DTensor go on to hold, and one that frees its last tensor
    while the interpreter ends aborts the process: leave by `os._exit` when everything is flushed. Collecting the group
    at exit instead can wait for ever for a peer that has left.
    """
    return bool(_JOINED)


@contextlib.contextmanager
def ranks(strategy: Strategy = "ddp") -> Iterator[Ranks]:
    """Join the other processes of the run, if there are any, and leave them at the end.

    Args:
        strategy: how they share the network.

    Raises:
        DistributedError: a rank has died, hangs, or left with an error of its own; it is named within half a minute.
    """
    if world_size() == 1:
        yield ALONE
        return
    store, number, count = next(rendezvous("env://", timeout=_COLLECTIVE_TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    shared = PrefixStore("ranks", store)
    dist.init_process_group(backend, store=shared, rank=number, world_size=count, timeout=_COLLECTIVE_TIMEOUT)
    # through a connection of its own: a call that waits in the first one would hold up the heartbeats
    watch = _Watch(PrefixStore("watch", store.clone()), number, count)
    _JOINED.append(number)
    if number:
        log.setLevel(logging.WARNING)
    try:
        yield Ranks(number, count, strategy)
        watch.leave()
    except (InterruptedRunError, NumericError):
        watch.leave()  # all ranks end for the same reason
        raise
    except RuntimeError as error:
        culprit = watch.find_culprit() if _is_about_a_peer(error) else None
        watch.leave(None if culprit else f"{type(error).__name__}: {error}")
        if culprit is None:
            raise
        raise lost(culprit, str(error)) from None
    except BaseException as error:
        watch.leave(f"{type(error).__name__}: {getattr(error, 'reason', error)}")
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _is_about_a_peer(error: RuntimeError) -> bool:
    return any(word in str(error) for word in ("gloo", "NCCL", "c10d", "Connection", "Broken pipe"))


def lost(culprit: str, seen: str = "") -> DistributedError:
    """The error of a run that has lost a rank."""
    return DistributedError(
        "lost-rank",
        f"{culprit}, so the run cannot go on",
        value=seen.splitlines()[0] if seen else None,
        remedy="look at the output of that rank; the same command goes on from the last checkpoint, on any number of "
        "processes",
        saved="the checkpoints written before",
    )


@dataclass
class _Seen:
    """The last heartbeat of one rank and when it came."""

    beat: str = ""
    when: float = field(default_factory=time.monotonic)


class _Watch:
    """A thread that shows this rank's heartbeat to the others and looks at theirs.

    A thread of a stopped process does not beat, so a hung process is found like a dead one. The store lives in the
    launcher, or in rank 0: when it does not answer, rank 0 is gone.
    """

    def __init__(self, store: Store, number: int, count: int) -> None:
        self._store, self._number = store, number
        self._others = {other: _Seen() for other in range(count) if other != number}
        self._end = threading.Event()
        self._culprit: str | None = None
        self._store.set(f"who/{number}", f"pid {os.getpid()} on {socket.gethostname()}")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def leave(self, fault: str | None = None) -> None:
        """End the thread, then tell the others that this rank goes; a fault of its own ends them too.

        In this order, so that no late heartbeat overwrites the word, and
        nothing is in the store when the interpreter ends.
        """
        self._end.set()
        self._thread.join(SILENT_SECONDS)  # a store that hangs never answers
        with contextlib.suppress(RuntimeError):
            told = _GONE if fault is None else _FAILED + (fault.splitlines() or [""])[0]
            self._store.set(f"beat/{self._number}", told)

    def find_culprit(self) -> str | None:
        """Wait for the verdict on a rank that a collective has lost; `None` if all of them live."""
        end = time.monotonic() + SILENT_SECONDS + 5
        while self._culprit is None and time.monotonic() < end and self._thread.is_alive():
            time.sleep(0.1)
        self._end.set()
        return self._culprit

    def _run(self) -> None:
        count = 0
        while not self._end.wait(_BEAT_SECONDS):
            count += 1
            try:
                self._store.set(f"beat/{self._number}", str(count))
                self._culprit = self._look()
            except RuntimeError as error:
                self._culprit = f"rank 0, which holds the store, does not answer ({str(error).splitlines()[0]})"
            if self._culprit is not None and not self._end.wait(SILENT_SECONDS / 3):
                self._abandon()

    def _look(self) -> str | None:
        for other, seen in self._others.items():
            key = f"beat/{other}"
            beat = self._store.get(key).decode() if self._store.check([key]) else ""
            if beat != seen.beat:
                seen.beat, seen.when = beat, time.monotonic()
            if beat.startswith(_FAILED):
                return f"rank {other} ({self._who(other)}) has failed ({beat.removeprefix(_FAILED)})"
        silent = [other for other, seen in self._others.items() if self._is_silent(seen)]
        names = ", ".join(f"rank {other} ({self._who(other)})" for other in silent)
        return f"{names} has given no sign of life for {SILENT_SECONDS:.0f} seconds" if silent else None

    def _is_silent(self, seen: _Seen) -> bool:
        return seen.beat != _GONE and time.monotonic() - seen.when > SILENT_SECONDS

    def _who(self, other: int) -> str:
        return self._store.get(f"who/{other}").decode() if self._store.check([f"who/{other}"]) else "never seen"

    def _abandon(self) -> None:
        """The main thread hangs in a collective that cannot end: say who is missing, show where it waits, and go."""
        assert self._culprit is not None, "somebody is missing"
        error = lost(self._culprit)
        sys.stderr.write(f"error: {error}\n")
        faulthandler.dump_traceback()
        sys.stderr.flush()
        os._exit(error.exit_code)
