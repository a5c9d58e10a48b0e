"""Settings of pre-training and fine-tuning; recipes and flags fill them. Imports no torch, so that `--help` is fast."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from unmask.config import Settings
from unmask.data.settings import Count, StreamSettings
from unmask.model.config import Pooling

Share = Annotated[float, Field(ge=0, le=1)]


class ModelSettings(Settings):
    """Shape of a network from random weights; where it is given, pre-training grows that of --model to it."""

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
    classifier_pooling: Pooling = "cls"
    """What fine-tuning lets a head of whole texts read, where it is not told: `<s>`, or the mean of all tokens."""


class OptimSettings(Settings):
    """How weights are updated; the defaults are RoBERTa's AdamW (Liu et al. 2019, section 3.1)."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` makes the momentum of hidden matrices orthogonal (Jordan et al. 2024); AdamW does the rest."""
    lr: Annotated[float, Field(gt=0)] = 6e-4
    """Peak learning rate; Muon's updates are scaled to the size of AdamW's, so that one rate serves both."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Decay rates of AdamW's running means of gradient and squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the root of the second mean."""
    momentum: Share = 0.95
    """Decay rate of Muon's running mean of the gradient."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    decay_all: bool = False
    """Decay biases and LayerNorms too, as fairseq did."""
    layer_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from the head to the top layer, and so on down; the embeddings are the lowest."""
    layer_weight_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the weight decay from the head to the top layer, and so on down."""
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    """How the learning rate goes on behind the warm-up; `wsd` stays at the peak and falls at the end."""
    warmup_ratio: Share = 0.06
    """Share of the run in which the learning rate rises from 0."""
    decay_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the run, at its end, in which `wsd` lets the learning rate fall."""
    final_lr_ratio: Share = 0.0
    """Share of the peak learning rate that is left at the end."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Longest gradient, longer ones are scaled down; 0 turns it off, as in the paper's pre-training."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay rate of a running mean of the weights, which is evaluated and kept instead of them; 0 turns it off."""


class FinetuneOptimSettings(OptimSettings):
    """AdamW for fine-tuning (Liu et al. 2019, table 10)."""

    lr: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate; when it is not given it is chosen by the model's width, from 1e-5 to 3e-4 (ten times that
    with LoRA), and printed."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""


class MachineSettings(Settings):
    """What to run on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Number format of matrix products; `auto` measures this machine."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 takes the cores that this process may use, shared among the processes of a host."""


class GuardSettings(Settings):
    """What to do when the loss jumps; a loss that is not finite always ends the run before the weights change."""

    spike_sigmas: Annotated[float, Field(ge=0)] = 6.0
    """A loss so many standard deviations above the mean of the last steps is a spike: its step is skipped; 0 is off."""
    window: Annotated[int, Field(ge=8)] = 128
    """Steps whose losses, spikes excluded, make that mean."""
    max_spikes: Count = 3
    """So many spikes within 100 steps bring the weights of the last checkpoint back."""
    max_rollbacks: Annotated[int, Field(ge=0)] = 2
    """After so many returns to a checkpoint the next one ends the run."""


class PretrainMachineSettings(MachineSettings):
    """What to run pre-training on."""

    data_threads: Annotated[int, Field(ge=0)] = 1
    """Threads that prepare the next batches while one is computed; 0 prepares each when it is needed."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How the processes of `torchrun` share the network: each holds all of it, or a share of every matrix."""
    async_save: bool = True
    """Write checkpoints in a thread while training goes on."""


class CardSettings(Settings):
    """What the model card says beside what the run knows."""

    name: str | None = None
    """Name of the model; by default that of the run folder."""
    language: str | None = None
    """Code of its language, such as en."""
    license: str | None = None
    """Terms of its weights, such as apache-2.0."""
    example: str | None = None
    """Text with a mask that the card shows in use."""
    sections: dict[str, str] = Field(default_factory=dict)
    """Further sections, heading to text: whose text it was trained on, under which terms, what it is bad at."""
    sources: tuple[str, ...] = ()
    """Digests (xxh3-128) of the files of text that this is about; trained on others, a model gets none of it."""


class PretrainSettings(StreamSettings):
    """A pre-training run on corpus folders."""

    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of training after which the run ends, its learning rate with it, if `max_steps` does not come first."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared log-partition function in the loss; 0 turns it off."""
    eval_every: Count = 200
    """Steps between evaluations."""
    save_every: Count = 200
    """Most steps between checkpoints."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Most minutes of training between checkpoints."""
    log_every: Count = 10
    """Steps between lines of progress."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that stay on disk."""
    weights_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the finished model's weights on disk; half of float32 is read back as float32."""
    card: CardSettings = CardSettings()
    """What the model card says beside what the run knows."""
    model: ModelSettings = ModelSettings()
    """The network."""
    optim: OptimSettings = OptimSettings()
    """The optimizer."""
    guard: GuardSettings = GuardSettings()
    """What to do about spikes of the loss."""
    machine: PretrainMachineSettings = PretrainMachineSettings()
    """Where to compute."""


class ColumnSettings(Settings):
    """Which columns of the file mean what; what is not given is inferred and printed."""

    text_column: str | None = None
    """Column of the text."""
    pair_column: str | None = None
    """Column of the second text of a pair."""
    label_column: str | None = None
    """Column of the label."""
    columns: str | None = None
    """Names of all columns, with commas between them, for files without a header."""
    skip_bad: bool = False
    """Leave bad rows out, and list them with their reasons in a file beside the run folder, `RUN.rejects`."""
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows that is split off to choose the best epoch when there is no dev file."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Longest input in tokens; by default the model's."""

    @property
    def names(self) -> list[str] | None:
        """Names of all columns, where the user gave them."""
        return [name.strip() for name in self.columns.split(",")] if self.columns else None


class RegularizeSettings(Settings):
    """What keeps a large network from learning a small file by heart; each makes a step cost about twice as much."""

    r_drop: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence between two passes with other dropout (R-Drop, Liang et al. 2021); 0 turns it off."""
    fgm_epsilon: Annotated[float, Field(ge=0)] = 0.0
    """Length of the step of the word table along its gradient (FGM, Miyato et al. 2017), such as 1; 0 turns it off."""


class BuildSettings(Settings):
    """From files of text to an encoder: a tokenizer, a corpus and a pre-training run."""

    vocab_size: Annotated[int, Field(ge=256)] = 16_384
    """Number of ids of the tokenizer, special tokens and 256 bytes included."""
    pretrain: PretrainSettings = PretrainSettings()
    """The pre-training."""


LoraTarget = Literal["qkv", "attention_out", "up", "down"]


class LoraSettings(Settings):
    """Train a small update beside frozen matrices (LoRA, Hu et al. 2021); the saved model is an ordinary one."""

    rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the update of each matrix, such as 8; 0 turns it off and trains the whole network."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Dropout of what goes into the update."""
    targets: tuple[LoraTarget, ...] = ("qkv", "attention_out", "up", "down")
    """Matrices of each layer that get one; the paper took those of attention alone, all are better since."""


class FinetuneSettings(Settings):
    """A fine-tuning run on a file of rows (Liu et al. 2019, table 10)."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the head's weights, the split, order and dropout."""
    epochs: Count = 10
    """Most passes over the training rows."""
    patience: Count = 3
    """Stop after so many evaluations without a better score; none counts as
    long as all rows have got one answer."""
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
    hidden_dropout: Share | None = None
    """Dropout after embeddings, attention and feed-forward; by default the model's own."""
    classifier_pooling: Pooling | None = None
    """What a head of whole texts reads: the first token's state (cls), or the mean of all; by default the model's."""
    attention_dropout: Share = 0.0
    """Dropout of attention weights; the paper has 0.1, 0 takes the fast kernels."""
    balanced_sampling: bool = False
    """Draw each epoch's rows so that all classes are equally frequent: rare rows come back, others take turns."""
    freeze_layers: Annotated[int, Field(ge=0)] | None = None
    """Keep the embeddings and so many of the lowest layers as they are; 0 keeps the embeddings alone."""
    freeze_encoder: bool = False
    """Train the head alone."""
    certify: Annotated[bool, Parameter(negative="--no-certify")] = True
    """Measure on the dev rows, if there are 100 or more, in which lower precisions the model may be computed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task itself, such as `--options.stride 128`; docs/reference/settings.md lists them by task."""
    data: ColumnSettings = ColumnSettings()
    """The columns."""
    optim: FinetuneOptimSettings = FinetuneOptimSettings()
    """The optimizer."""
    regularize: RegularizeSettings = RegularizeSettings()
    """What keeps the network from learning the rows by heart."""
    lora: LoraSettings = LoraSettings()
    """Updates of low rank in place of whole matrices."""
    model: ModelSettings = ModelSettings()
    """The network, when there is no model to start from."""
    machine: MachineSettings = MachineSettings()
    """Where to compute."""

    @field_validator("options")
    @classmethod
    def _with_underscores(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Names as flags write them, such as `doc-stride`, are those of the settings."""
        return {name.replace("-", "_"): value for name, value in options.items()}


class RepeatSettings(Settings):
    """One fine-tuning several times, over seeds or over parts of the rows."""

    seeds: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] | None = None
    """Train once with each of these seeds, such as 0,1,2, and keep the best model."""
    restart_collapsed: bool = False
    """Let another seed take the place of a run that has learned nothing, up to three times each."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validate over so many parts of the rows."""
    keep: Literal["all", "best"] = "all"
    """With folds: train the model to keep on all rows, or keep that of the best fold."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.seeds is not None and self.folds is not None:
            raise ValueError("a run goes over seeds or over folds, not over both")
        if self.restart_collapsed and self.seeds is None:
            raise ValueError("--restart-collapsed needs --seeds: a single run has no other seeds to take")
        if "keep" in self.model_fields_set and self.folds is None:
            raise ValueError("--keep needs --folds: without them there is one model to keep")
        return self

    @property
    def numbers(self) -> list[int]:
        """The seeds, one by one."""
        return [int(word) for word in self.seeds.split(",")] if self.seeds else []


class TuneSettings(Settings):
    """How long to search for settings, and among which."""

    trials: Count = 20
    """Fine-tunings to try; the same command with more goes on."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Begin no further trial after so many minutes."""
    space: Path | None = None
    """TOML file that says what is tried for which setting; by default the usual ranges."""
