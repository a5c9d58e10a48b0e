"""How well a masked language model guesses held-out text, by the length of the blocks that it reads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.errors import UsageError
from unmask.runtime import Machine
from unmask.tasks.masked_lm import MaskedLM
from unmask.train.network import load_corpora
from unmask.train.pretrain import held_out_losses
from unmask.train.settings import PretrainSettings

_TOKENS = 8192  # of one forward pass


@dataclass(frozen=True)
class HeldOut:
    """Scores of one block length.

    Attributes:
        block_length: most tokens of a block.
        nats_per_token: for each masked token.
        perplexity: e to it.
        bits_per_byte: comparable between vocabularies.
    """

    block_length: int
    nats_per_token: float
    perplexity: float
    bits_per_byte: float


def score_held_out(
    task: MaskedLM, folders: Sequence[Path], lengths: Sequence[int], *, blocks: int, machine: Machine
) -> list[HeldOut]:
    """Score a model on what pre-training with the default settings never reads of the corpora, one score a length.

    Args:
        task: the model.
        folders: corpora, with its tokenizer.
        lengths: of the blocks, of full sentences across documents; 15 % of their tokens are masked one by one, always
            the same ones.
        blocks: most of each length.
        machine: number format.

    Raises:
        ArtefactError: a folder is no corpus.
        UsageError: the model is too short for a length, or has another tokenizer.
        DataError: a corpus is too small for a length.
    """
    corpora, tokenizer = load_corpora(folders)
    if tokenizer.fingerprint != task.tokenizer.fingerprint:
        raise UsageError(
            "other-tokenizer",
            "the corpus was built with another tokenizer than the model's, so its ids mean other pieces",
            place=folders[0],
            remedy="build the corpus with --tokenizer MODEL",
        )
    if max(lengths) > task.config.max_length:
        raise UsageError(
            "block-length",
            f"the model takes {task.config.max_length} tokens",
            place="--lengths",
            value=max(lengths),
            remedy="name shorter ones",
        )
    found = []
    for length in lengths:
        batch = max(1, _TOKENS // length)
        settings = PretrainSettings(block_length=length, eval_blocks=blocks, micro_batch_size=batch)
        stream = PretrainStream(
            corpora,
            settings,
            vocabulary=Vocabulary.of(task.tokenizer),
            position_offset=task.config.position_offset,
        )
        losses = held_out_losses(task, stream.held_out(), machine)
        assert losses is not None, "nobody asked to stop"
        loss = float(losses[0])
        bits = loss / math.log(2) / stream.bytes_per_token
        found.append(HeldOut(length, loss, math.exp(min(700.0, loss)), bits))
    return found
