"""Everything of a trainer that moves, copied out of it and put back: weights, moments, running mean, counters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from unmask.errors import ArtefactError
from unmask.train.parallel import sharded, spread

WEIGHTS, OPTIMIZER, MEAN = "model.safetensors", "optimizer.safetensors", "mean.safetensors"
_SHARDS = ".metadata"

# By file name, then by tensor name.
Tensors = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Snapshot:
    """A frozen copy of a trainer.

    Attributes:
        values: counters and the guard's window, plain JSON values.
        tensors: copies in host memory; in a sharded run this rank's shares themselves, to be written at once.
        is_sharded: whether the ranks write their shares together (torch.distributed.checkpoint).
    """

    values: dict[str, Any]
    tensors: Tensors
    is_sharded: bool = False

    @classmethod
    def of(cls, tensors: Tensors, values: dict[str, Any], *, is_sharded: bool) -> "Snapshot":
        """Copy tensors, so that later steps do not change them."""
        if is_sharded:
            return cls(values, tensors, is_sharded=True)
        return cls(values, {file: {name: _copy(one) for name, one in part.items()} for file, part in tensors.items()})

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors, about those of its files."""
        return sum(one.numel() * one.element_size() for part in self.tensors.values() for one in part.values())

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files, one at a time; only of a snapshot that is not sharded."""
        return ((file, save(dict(part))) for file, part in self.tensors.items() if part)

    def write_shards(self, folder: Path) -> None:
        """Write this rank's shares; all ranks call it together."""
        sharded().save_shares(_flat(self.tensors), folder)


def is_sharded(folder: Path) -> bool:
    """Whether a checkpoint was written by several ranks together."""
    return (folder / _SHARDS).is_file()


def read_tensors(tensors: Tensors, folder: Path) -> None:
    """Fill tensors in place from a checkpoint folder, however many ranks wrote it and read it.

    Raises:
        ArtefactError: the folder has other tensors.
    """
    with torch.no_grad():
        if is_sharded(folder):
            sharded().load_shares(_flat(tensors), folder)
            return
        stored = {file: load_file(folder / file) for file, part in tensors.items() if part}
        _refuse_others(_flat(tensors), _flat(stored), folder)
        for file, part in tensors.items():
            for name, one in part.items():
                one.copy_(spread(stored[file][name], one))


def _refuse_others(wanted: dict[str, torch.Tensor], stored: dict[str, torch.Tensor], place: Path) -> None:
    differing = [
        f"{name}: {_shape(stored.get(name))} instead of {_shape(wanted.get(name))}"
        for name in sorted(wanted.keys() | stored.keys())
        if _shape(stored.get(name)) != _shape(wanted.get(name))
    ]
    if differing:
        raise ArtefactError(
            "other-tensors",
            f"{len(differing)} tensors are not those of this run: {'; '.join(differing[:10])}",
            place=place,
            remedy="use the settings that the run began with",
        )


def _shape(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def _flat(tensors: Tensors) -> dict[str, Any]:
    return {f"{file}/{name}": one for file, part in tensors.items() for name, one in part.items()}


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
