"""The shape of an encoder, and its translation from and to the field's config.json."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from unmask.config import Settings
from unmask.errors import ArtefactError

Family = Literal["roberta", "xlm-roberta", "bert"]
Pooling = Literal["cls", "mean"]
Head = Literal["masked_lm", "classification", "tagging", "span_qa", "multiple_choice", "seq2seq"]

HEADS_OF_TEXTS: tuple[Head, ...] = ("classification", "multiple_choice")

# A CamemBERT is an XLM-R of one language: Unigram tokenizer, the same network, the same names.
_FAMILIES: dict[str, Family] = {
    "roberta": "roberta",
    "xlm-roberta": "xlm-roberta",
    "camembert": "xlm-roberta",
    "bert": "bert",
}
_CLASS_PREFIX: dict[Family, str] = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "bert": "Bert"}
_CLASS_SUFFIX: dict[Head | None, str] = {
    None: "Model",
    "masked_lm": "ForMaskedLM",
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "span_qa": "ForQuestionAnswering",
    "multiple_choice": "ForMultipleChoice",
    "seq2seq": "Model",
}
# What transformers takes for a key that the file lacks; the same for the three families but for pad_token_id.
_PUBLISHED_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "classifier_pooling": "cls",
}
_FIXED: dict[str, tuple[object, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}


class EncoderConfig(Settings):
    """Sizes, dropout rates and family of one encoder; RoBERTa's paper, table 9, names the published ones."""

    family: Family = "roberta"
    """Position numbering and published names: roberta, xlm-roberta, or bert (the Chinese "RoBERTa" in BERT form)."""
    vocab_size: int = Field(ge=1, le=10_000_000)
    """Rows of the word table: the highest token id + 1."""
    hidden_size: int = Field(default=768, ge=1, le=65_536)
    """Width of the hidden states."""
    num_hidden_layers: int = Field(default=12, ge=1, le=1_000)
    """Transformer layers."""
    num_attention_heads: int = Field(default=12, ge=1, le=4_096)
    """Attention heads a layer; they divide hidden_size."""
    intermediate_size: int = Field(default=3072, ge=1, le=1_000_000)
    """Inner width of the feed-forward block."""
    max_length: int = Field(default=512, ge=3, le=1_000_000)
    """Longest input in tokens, special tokens included; the position table is derived from it."""
    type_vocab_size: int = Field(default=1, ge=1, le=1_024)
    """Rows of the token type table: 1 for RoBERTa, 2 for BERT form."""
    layer_norm_eps: float = Field(default=1e-5, gt=0, lt=1)
    """Added to the variance in every LayerNorm."""
    hidden_dropout_prob: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after the embeddings, the attention output and the feed-forward block."""
    attention_probs_dropout_prob: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the attention probabilities; 0 is much faster on a CPU."""
    pad_token_id: int = Field(default=1, ge=0)
    """Id of the padding token; RoBERTa counts positions from it."""
    initializer_range: float = Field(default=0.02, gt=0, le=10)
    """Standard deviation of the random start."""
    classifier_pooling: Pooling = "cls"
    """What a classifier reads of a text: the first token's state, as published, or the mean of all tokens' states."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.pad_token_id >= self.vocab_size:
            raise ValueError(f"pad_token_id {self.pad_token_id} is not below vocab_size {self.vocab_size}")
        return self

    @property
    def position_offset(self) -> int:
        """Position id of a text's first token: pad_token_id + 1 for RoBERTa and XLM-R, 0 in BERT form."""
        return 0 if self.family == "bert" else self.pad_token_id + 1

    @property
    def num_positions(self) -> int:
        """Rows of the position table, such as 514 for a RoBERTa of max_length 512."""
        return self.max_length + self.position_offset

    def pools_mean(self, head: Head | None) -> bool:
        """Whether the head reads the mean of a text's states, which no published class of these families does."""
        return self.classifier_pooling == "mean" and head in HEADS_OF_TEXTS

    def to_hf(self, *, head: Head | None = None, labels: list[str] | None = None) -> dict[str, Any]:
        """Give the content of a config.json that transformers opens.

        Args:
            head: which published class the weights belong to.
            labels: names of the classes, in the order of the logits.
        """
        content: dict[str, Any] = {
            "architectures": [_CLASS_PREFIX[self.family] + _CLASS_SUFFIX[None if self.pools_mean(head) else head]],
            "model_type": self.family,
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "max_position_embeddings": self.num_positions,
            "dtype": "float32",
        }
        for name in ("vocab_size", "pad_token_id", *_PUBLISHED_DEFAULTS):
            if name != "max_position_embeddings":
                content[name] = getattr(self, name)
        if labels is not None:
            content["id2label"] = {str(index): label for index, label in enumerate(labels)}
            content["label2id"] = {label: index for index, label in enumerate(labels)}
        return content

    @classmethod
    def from_hf(cls, content: Mapping[str, Any], *, place: object = None) -> Self:
        """Read a published config.json of a RoBERTa, XLM-R, CamemBERT or BERT.

        Args:
            content: the parsed file.
            place: its path, for the error message.

        Raises:
            ArtefactError: another kind of model, a feature that this network lacks, or sizes that make no sense.
        """
        kind = content.get("model_type")
        if kind not in _FAMILIES:
            raise ArtefactError(
                "wrong-model-type",
                "config.json names a kind of model that is not loaded here",
                place=place,
                value=kind,
                expected=f"model_type one of {', '.join(_FAMILIES)}",
                remedy="use a RoBERTa, XLM-R, CamemBERT or BERT-form folder",
            )
        _refuse_other_networks(content, place)
        family = _FAMILIES[kind]
        values = {name: content.get(name, default) for name, default in _PUBLISHED_DEFAULTS.items()}
        values["classifier_pooling"] = values["classifier_pooling"] or "cls"
        pad = content.get("pad_token_id")
        pad = (0 if family == "bert" else 1) if pad is None else pad
        positions = values.pop("max_position_embeddings")
        try:
            offset = 0 if family == "bert" else pad + 1
            values |= {"family": family, "vocab_size": content.get("vocab_size"), "pad_token_id": pad}
            return cls.model_validate(values | {"max_length": positions - offset})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'sizes'} = {str(item['input'])[:40]}: {item['msg']}"
                for item in error.errors()
            )
        except TypeError as error:
            faults = f"max_position_embeddings and pad_token_id must be numbers: {error}"
        raise ArtefactError(
            "bad-model-config",
            f"config.json has values that make no model: {faults}",
            place=place,
            remedy="copy the published folder again",
        )


def named_head(content: Mapping[str, Any]) -> Head | None:
    """The head that a published config.json names, where the weights' names alone do not tell it."""
    named = content.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    heads: tuple[Head, ...] = ("tagging", "span_qa", "multiple_choice")
    return next((head for head in heads if name.endswith(_CLASS_SUFFIX[head])), None)


def _refuse_other_networks(content: Mapping[str, Any], place: object) -> None:
    for name, allowed in _FIXED.items():
        if content.get(name, allowed[0]) not in allowed:
            raise ArtefactError(
                "unsupported-model",
                f"the model uses a {name} that this network does not compute",
                place=place,
                value=content[name],
                expected=f"{name} {' or '.join(map(str, allowed))}",
                remedy="use a model with RoBERTa's own network",
            )
