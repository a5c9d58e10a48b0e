"""transformers' module through torch.compile, with dynamic shapes and frozen weights, its fastest setting for use."""

from pathlib import Path

import torch
from torch._inductor import config

from . import with_transformers

LIBRARIES = with_transformers.LIBRARIES
ORDERS = with_transformers.ORDERS
BATCH_SIZE = with_transformers.BATCH_SIZE


class Engine(with_transformers.Engine):
    """As with_transformers, compiled at the first call."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        super().__init__(model, precision, prepared, threads)
        config.freezing = True
        # no pool of compilers beside the engine
        config.compile_threads = 1
        self.network = torch.compile(self.network, dynamic=True)
