"""Settings of pre-training and fine-tuning; recipes and flags fill them. Imports no torch, so that `--help` is fast."""

from typing import Annotated, Literal

from pydantic import Field

from unmask.config import Settings
from unmask.data.masking import MaskingSettings

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ModelSettings(Settings):
    """Shape of a network that starts from random weights."""

    num_hidden_layers: Count = 4
    """Transformer layers."""
    hidden_size: Count = 256
    """Width of the hidden states."""
    num_attention_heads: Count = 4
    """Attention heads; they divide the width."""
    intermediate_size: Count = 1024
    """Width of the feed-forward layers."""
    max_length: Count = 512
    """Longest input in tokens, special tokens included; the position table is derived from it."""
    hidden_dropout_prob: Share = 0.1
    """Dropout after embeddings, attention and feed-forward."""
    attention_probs_dropout_prob: Share = 0.0
    """Dropout of attention weights; the paper has 0.1, 0 takes the fast kernels."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the random start."""


class OptimSettings(Settings):
    """AdamW as RoBERTa uses it (Liu et al. 2019, section 3.1), with linear warm-up and decay."""

    lr: Annotated[float, Field(gt=0)] = 6e-4
    """Peak learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Decay rates of the running means of gradient and squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the root of the second mean."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    decay_all: bool = False
    """Decay biases and LayerNorms too, as fairseq did."""
    warmup_ratio: Share = 0.06
    """Share of all steps in which the learning rate rises from 0."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Longest gradient, longer ones are scaled down; 0 turns it off, as in the paper's pre-training."""


class FinetuneOptimSettings(OptimSettings):
    """AdamW for fine-tuning (Liu et al. 2019, table 10)."""

    lr: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate; when it is not given it is chosen by the model's width, from 1e-5 to 1e-4, and printed."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""


class MachineSettings(Settings):
    """What to run on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Number format of matrix products; `auto` measures this machine."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 takes the cores that this process may use."""


class PretrainSettings(Settings):
    """A pre-training run on a corpus folder."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides weights, order, masks and dropout."""
    block_length: Annotated[int, Field(ge=8)] = 128
    """Tokens of a block of whole sentences, special tokens included."""
    max_steps: Count = 1000
    """Optimizer steps of the run."""
    global_batch_size: Count = 256
    """Blocks of one optimizer step."""
    micro_batch_size: Count = 32
    """Blocks of one forward pass; the global batch is summed up over several."""
    eval_blocks: Count = 256
    """Blocks that are held out and scored with fixed masks."""
    eval_every: Count = 200
    """Steps between evaluations."""
    save_every: Count = 200
    """Steps between checkpoints."""
    log_every: Count = 10
    """Steps between lines of progress."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that stay on disk."""
    masking: MaskingSettings = MaskingSettings()
    """How tokens are chosen and replaced."""
    model: ModelSettings = ModelSettings()
    """The network."""
    optim: OptimSettings = OptimSettings()
    """The optimizer."""
    machine: MachineSettings = MachineSettings()
    """Where to compute."""


class ColumnSettings(Settings):
    """Which columns of the file mean what; what is not given is inferred and printed."""

    text_column: str | None = None
    """Column of the text."""
    pair_column: str | None = None
    """Column of the second text of a pair."""
    label_column: str | None = None
    """Column of the label."""
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows that is split off to choose the best epoch when there is no dev file."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Longest input in tokens; by default the model's."""


class FinetuneSettings(Settings):
    """A fine-tuning run on a file of rows (Liu et al. 2019, table 10)."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the head's weights, the split, order and dropout."""
    epochs: Count = 10
    """Most passes over the training rows."""
    patience: Count = 3
    """Stop after so many evaluations without a better score."""
    batch_size: Count = 16
    """Rows of one optimizer step."""
    max_tokens: Count = 4096
    """Most tokens of one forward pass; a larger batch is summed up over several."""
    log_every: Count = 10
    """Steps between lines of progress."""
    save_every: Count = 500
    """Steps between checkpoints; one more is written after each evaluation."""
    metric: str | None = None
    """Score that chooses the best epoch, such as mcc or macro_f1; by default the task's own."""
    head_dropout: Share = 0.1
    """Dropout before both layers of the head; fairseq used 0."""
    attention_dropout: Share = 0.0
    """Dropout of attention weights; the paper has 0.1, 0 takes the fast kernels."""
    data: ColumnSettings = ColumnSettings()
    """The columns."""
    optim: FinetuneOptimSettings = FinetuneOptimSettings()
    """The optimizer."""
    model: ModelSettings = ModelSettings()
    """The network, when there is no model to start from."""
    machine: MachineSettings = MachineSettings()
    """Where to compute."""
