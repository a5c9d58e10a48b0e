"""The network that pre-training begins with: random weights, or those of a folder; and the corpora that fit it."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from unmask import storage
from unmask.checkpoint import META, Model, load_model
from unmask.config import resolve
from unmask.data.corpus import Corpus
from unmask.errors import ArtefactError, UsageError
from unmask.model.config import EncoderConfig
from unmask.model.grow import SIZES, grow
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.tasks.sentence_pairs import SentencePairsLM
from unmask.tokenizer.load import Tokenizer
from unmask.train.settings import ModelSettings, PretrainSettings

log = logging.getLogger("unmask")

_SHAPE = (*SIZES, "hidden_dropout_prob", "initializer_range", "classifier_pooling")
_TYPES = "encoder.embeddings.token_type.weight"


def load_corpora(folders: Sequence[Path]) -> tuple[list[Corpus], Tokenizer]:
    """Open the corpora of a run and the tokenizer that all of them were built with.

    Raises:
        ArtefactError: a folder is no corpus, or is damaged.
        UsageError: none is given, or their tokenizers differ.
    """
    if not folders:
        raise UsageError("no-corpus-given", "there is nothing to train on", remedy="name one: --corpus DIR")
    corpora = [Corpus.open(folder) for folder in folders]
    first = corpora[0]
    for corpus in corpora[1:]:
        if corpus.tokenizer_fingerprint != first.tokenizer_fingerprint:
            raise UsageError(
                "other-tokenizer",
                f"the corpus has another tokenizer than {first.folder}, so its ids mean other pieces",
                place=corpus.folder,
                remedy="build all corpora with the same --tokenizer",
            )
    return corpora, Tokenizer.load(first.tokenizer_folder)


def build_network(tokenizer: Tokenizer, settings: PretrainSettings, folder: Path | None) -> MaskedLM:
    """Make the task with its first weights.

    Args:
        tokenizer: of the corpora.
        settings: of the run; with a folder, dropout and sizes count where they are given, and it grows to these.
        folder: model folder to go on from; None draws random weights from the seed.

    Raises:
        ArtefactError: the folder is no model, has no masked-language-model head, or another tokenizer.
        UsageError: sizes, block length or objective do not fit the folder's network.
    """
    kind = MaskedLM if settings.objective == "mlm" else SentencePairsLM
    has_types = settings.input_format in ("segment_pair", "sentence_pair") or tokenizer.family == "bert"
    start = None if folder is None else _load(folder, tokenizer, settings)
    config = _random_config(tokenizer, settings) if start is None else _grown_config(start.config, settings.model)
    if has_types and config.type_vocab_size < 2:
        config = config.model_copy(update={"type_vocab_size": 2})
    task = kind(config, tokenizer, MaskedLMSettings(masking=settings.masking, z_loss=settings.z_loss))
    task.init_weights(settings.seed)
    if start is not None and folder is not None:
        task.encoder.set_attention_dropout(settings.model.attention_probs_dropout_prob)
        types = start.state_dict[_TYPES]
        start.state_dict[_TYPES] = types[torch.arange(config.type_vocab_size).clamp(max=len(types) - 1)].clone()
        if any(getattr(config, name) != getattr(start.config, name) for name in SIZES):
            start.state_dict.update(
                grow(start.state_dict, task.state_dict(), old=start.config, new=config, places=known_places(folder))
            )
            log.info("%s grows from %s to %s", storage.told_name(folder), _shape(start.config), _shape(config))
        fresh = task.load_weights(start)
        log.info("going on from %s; whole tensors with random values: %s", folder, ", ".join(fresh) or "none")
    return task


def known_places(folder: Path | None) -> int:
    """How many places the model has learned that a run goes on from; 0 for random weights.

    Its pre-training has noted it; of other folders it is all that there are.

    Raises:
        ArtefactError: the folder's config is damaged.
    """
    if folder is None:
        return 0
    path = folder / "config.json"
    config = EncoderConfig.from_hf(storage.read_json(path), place=path)
    note = storage.read_json(folder / META) if (folder / META).is_file() else {}
    return min(int(note.get("meta", {}).get("places", config.max_length)), config.max_length)


def as_built(settings: PretrainSettings, config: EncoderConfig) -> PretrainSettings:
    """The settings with the sizes that the network has, so that those of the run make the same one again."""
    shape = settings.model.model_copy(update={name: getattr(config, name) for name in _SHAPE})
    return settings.model_copy(update={"model": shape})


def _random_config(tokenizer: Tokenizer, settings: PretrainSettings) -> EncoderConfig:
    derived = {
        "family": tokenizer.family,
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "type_vocab_size": 1,
        "max_length": max(settings.model.max_length, settings.places),
    }
    return resolve(EncoderConfig, settings.model.model_dump(), derived, place="[model]")


def _grown_config(config: EncoderConfig, asked: ModelSettings) -> EncoderConfig:
    """The folder's, with what the settings give; a new width alone means more heads, as wide as before."""
    given = {name: getattr(asked, name) for name in _SHAPE if name in asked.model_fields_set}
    width = config.hidden_size // config.num_attention_heads
    heads = {"num_attention_heads": max(1, given.get("hidden_size", config.hidden_size) // width)}
    return resolve(EncoderConfig, config.model_dump(), heads, given, place="[model]")


def _shape(config: EncoderConfig) -> str:
    depth, width = config.num_hidden_layers, config.hidden_size
    return (
        f"{depth} x {width} with {config.num_attention_heads} heads, {config.intermediate_size} units and "
        f"{config.max_length} places"
    )


def _load(folder: Path, tokenizer: Tokenizer, settings: PretrainSettings) -> Model:
    start = load_model(folder, head="masked_lm")
    if start.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ArtefactError(
            "other-tokenizer",
            "the corpus was built with another tokenizer than the model's, so its ids mean other pieces",
            place=folder,
            remedy=f"build the corpus with --tokenizer {folder}; to add pieces first: unmask tokenizer extend",
        )
    asked = settings.model
    places = asked.max_length if "max_length" in asked.model_fields_set else start.config.max_length
    if settings.places > max(places, start.config.max_length):
        raise UsageError(
            "block-length",
            f"the model takes {max(places, start.config.max_length)} tokens",
            place="--block-length" + " and --max-shift" * bool(settings.max_shift),
            value=settings.places,
            remedy=f"shorter blocks; or let the model grow: --model.max-length {settings.places}",
        )
    if start.missing:
        log.warning("%s lacks parts of its head, which begin at random: %s", folder, ", ".join(start.missing))
    return start


class CorpusCheck:
    """Compares every byte of the corpora with their manifests in a thread, while training has begun.

    Opening a corpus looks at sizes alone, so that a run starts at once, however large it is.

    Args:
        corpora: of the run.
    """

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self._folders = [corpus.folder for corpus in corpora]
        self._error: ArtefactError | OSError | None = None
        self._thread = threading.Thread(target=self._run, name="corpus-check", daemon=True)
        self._thread.start()

    def look(self, *, wait: bool = False) -> None:
        """Raise what has been found so far; with `wait`, when all has been read.

        Raises:
            ArtefactError: a file of a corpus has changed since it was written.
        """
        if wait:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for folder in self._folders:
                storage.verify(folder)
        except (ArtefactError, OSError) as error:
            self._error = error
