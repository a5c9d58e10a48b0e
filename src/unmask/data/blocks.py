"""The batches of pre-training: blocks of a corpus in keyed order with keyed masks, ready for the network.

State is one integer, the number of samples taken so far; nothing else is needed to go on anywhere.
"""

from collections.abc import Iterator

import numpy as np
import torch

from unmask.data.batching import Batch, positions_of
from unmask.data.masking import MaskingSettings, mask
from unmask.data.order import permute, sample_ids
from unmask.data.packing import FullSentences
from unmask.errors import DataError

_HELD_OUT_KEY = 0x5EED


class MaskedBlocks:
    """Cuts a corpus into training and held-out blocks and gives masked batches of either.

    Args:
        blocks: of whole sentences.
        masking: how tokens are chosen and replaced.
        seed: of order and masks.
        num_eval: blocks that are held out, the same for every seed.
        mask_id: id of the mask token.
        special_ids: ids that are neither masked nor drawn as random tokens.
        vocab_size: ids of the vocabulary.
        position_offset: position id of the first token.
    """

    def __init__(
        self,
        blocks: FullSentences,
        masking: MaskingSettings,
        *,
        seed: int,
        num_eval: int,
        mask_id: int,
        special_ids: np.ndarray,
        vocab_size: int,
        position_offset: int,
    ) -> None:
        if len(blocks) <= num_eval:
            raise DataError(
                "small-corpus",
                f"the corpus has {len(blocks)} blocks, {num_eval} are to be held out",
                remedy="lower --eval-blocks or --block-length, or build a larger corpus",
            )
        self._blocks = blocks
        self._masking = masking
        self._seed = seed
        self._mask_id = mask_id
        self._allowed = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), special_ids)
        self._offset = position_offset
        order = permute(np.arange(len(blocks)), size=len(blocks), key=_HELD_OUT_KEY)
        self._held_out, self._training = np.sort(order[:num_eval]), np.sort(order[num_eval:])

    @property
    def num_training(self) -> int:
        """Blocks of one epoch."""
        return len(self._training)

    def steps(self, first: int, *, global_batch_size: int, micro_batch_size: int) -> Iterator[list[Batch]]:
        """Global batches without end, beginning with optimizer step number `first`, counted from 0."""
        step = first
        while True:
            epochs, samples = sample_ids(
                step * global_batch_size, global_batch_size, size=self.num_training, seed=self._seed
            )
            blocks = self._training[samples]
            yield [
                self._batch(blocks[at : at + micro_batch_size], epochs[at : at + micro_batch_size], self._seed)
                for at in range(0, global_batch_size, micro_batch_size)
            ]
            step += 1

    def held_out(self, micro_batch_size: int) -> Iterator[Batch]:
        """The held-out blocks with masks that are the same for every run, so that checkpoints can be compared."""
        for at in range(0, len(self._held_out), micro_batch_size):
            chosen = self._held_out[at : at + micro_batch_size]
            yield self._batch(chosen, np.zeros(len(chosen), dtype=np.int64), _HELD_OUT_KEY)

    def _batch(self, blocks: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        packed = self._blocks.take(blocks)
        masked = mask(
            packed.ids,
            packed.cu_seqlens,
            packed.special,
            sample_ids=blocks,
            epochs=epochs,
            seed=seed,
            config=self._masking,
            mask_id=self._mask_id,
            allowed_ids=self._allowed,
        )
        return Batch(
            input_ids=torch.from_numpy(masked.input_ids.astype(np.int64)),
            position_ids=positions_of(packed.cu_seqlens, self._offset),
            cu_seqlens=packed.cu_seqlens,
            labels=torch.from_numpy(masked.labels.astype(np.int64)),
            positions=torch.from_numpy(masked.positions.astype(np.int64)),
        )
