"""Settings of the batches of pre-training. Imports no torch, so that `--help` is fast."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unmask.config import Settings
from unmask.data.curriculum import CurriculumSettings
from unmask.data.masking import MaskingSettings

Count = Annotated[int, Field(gt=0)]
InputFormat = Literal["full_sentences", "doc_sentences", "segment_pair", "sentence_pair"]
Objective = Literal["mlm", "mlm+nsp", "mlm+sop"]


class StreamSettings(Settings):
    """What pre-training reads: blocks, order, masks (Liu et al. 2019, sections 3 and 4)."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides weights, order, masks and dropout."""
    block_length: Annotated[int, Field(ge=8)] = 128
    """Most tokens of a block, special tokens included."""
    max_shift: Annotated[int, Field(ge=0)] = 0
    """Each block begins at a random place from 0 to this (SHAPE, Kiyono et al. 2021), so that short blocks teach all
    places of a longer model; texts longer than a block are not learned from it. The model needs places for the longest
    blocks, and for the shortest ones moved by this; blocks of a length between are moved no farther."""
    max_steps: Count = 1000
    """Optimizer steps of the run."""
    global_batch_size: Count = 256
    """Blocks of one optimizer step; where blocks are shorter than full sentences their number grows."""
    micro_batch_size: Count = 32
    """Blocks of one forward pass, which grow likewise; the global batch is summed up over several."""
    input_format: InputFormat = "full_sentences"
    """What a block is: whole sentences across documents, or within one; or a pair of segments, or of sentences."""
    isolate_documents: bool = False
    """Attention in full_sentences stays within a document; each part of a block gets its own special tokens."""
    objective: Objective = "mlm"
    """Masked words alone; or with next-sentence prediction, or with sentence order, for the pair formats."""
    corpus_weights: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Share of each corpus in the blocks, of any sum; by default as many as it has."""
    held_out_tokens: Count = 262_144
    """Tokens of each corpus that are never trained on, in whole documents; at most a tenth of it."""
    eval_blocks: Count = 256
    """Most held-out blocks that an evaluation scores, with fixed masks."""
    round_tokens: Annotated[int, Field(ge=0)] = 0
    """Fill each forward pass up to a multiple of so many tokens, for kernels made for fixed shapes; 0 is off."""
    round_targets: Annotated[int, Field(ge=0)] = 0
    """Fill the masked places of each forward pass up to a multiple of this; 0 is off."""
    masking: MaskingSettings = MaskingSettings()
    """How tokens are chosen and replaced."""
    curriculum: CurriculumSettings = CurriculumSettings()
    """Shorter blocks and smaller batches to begin with."""

    @model_validator(mode="after")
    def _parts_agree(self) -> "StreamSettings":
        is_pair = self.input_format in ("segment_pair", "sentence_pair")
        if is_pair and self.objective == "mlm":
            raise ValueError(
                f"{self.input_format} is for the objectives mlm+nsp and mlm+sop; for mlm take full_sentences"
            )
        if not is_pair and self.objective != "mlm":
            raise ValueError(f"{self.objective} needs pairs: set input_format to segment_pair or sentence_pair")
        if self.isolate_documents and self.input_format != "full_sentences":
            raise ValueError("isolate_documents is for full_sentences; no other format joins documents")
        if any(length >= self.block_length for length in self.curriculum.block_lengths):
            raise ValueError("curriculum.block_lengths must be below block_length")
        return self

    @property
    def places(self) -> int:
        """Positions that the blocks of all phases reach: the longest block, or the shortest one and its shift."""
        shortest = min((*self.curriculum.block_lengths, self.block_length))
        return max(self.block_length, shortest + self.max_shift)

    def shift_of(self, length: int) -> int:
        """Last place where blocks of a length begin: `max_shift`, or where the places end."""
        return min(self.max_shift, self.places - length)
