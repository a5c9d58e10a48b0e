"""What only a network needs that is spread over several ranks, or a checkpoint that was written so (FSDP2, DCP).

Kept apart because these parts of torch take a second to import; `parallel` loads it when it is needed.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from unmask.errors import ResourceError


def shard(network: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Spread a network over all ranks, layer by layer (Zhao et al. 2023)."""
    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    for part in (*layers, network):
        # also the outermost part, whose weights would else stay whole after an evaluation
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def exchange_gradients(network: nn.Module, *, is_on: bool) -> None:
    """Say whether the next backward passes exchange gradients."""
    assert isinstance(network, FSDPModule), "only of a sharded network"
    network.set_requires_gradient_sync(is_on)


def whole_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights on the host of rank 0; empty on the others."""
    found = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: value.clone() for name, value in found.items() if isinstance(value, torch.Tensor)}


def spread(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This rank's share of a tensor, as `like` is spread."""
    assert isinstance(like, DTensor), "only for a spread tensor"
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def save_shares(tensors: Mapping[str, Any], folder: Path) -> None:
    """Write this rank's shares of a checkpoint; all ranks call it together.

    Raises:
        ResourceError: a rank could not write.
    """
    try:
        save(dict(tensors), checkpoint_id=folder)
    except (CheckpointException, OSError, RuntimeError) as error:
        raise ResourceError(
            "disk-refuses",
            "a share of the checkpoint could not be written",
            place=folder,
            value=str(error).strip().splitlines()[-1],
            remedy=f"make room ({shutil.disk_usage(folder).free:,} bytes are free) and start the same command again",
            saved="the checkpoints written before",
        ) from None


def load_shares(tensors: Mapping[str, Any], folder: Path) -> None:
    """Fill tensors in place from a checkpoint that any number of ranks has written."""
    load(dict(tensors), checkpoint_id=folder)
