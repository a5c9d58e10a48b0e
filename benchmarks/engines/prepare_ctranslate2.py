"""The encoder by CTranslate2's converter, and the weights of the head, which it has no place for, beside it."""

from pathlib import Path

import ctranslate2
import numpy as np
import transformers

LIBRARIES = ("ctranslate2", "transformers")


def prepare(model: Path, precision: str, target: Path) -> None:
    """Write `encoder` and `head.npz`."""
    converter = ctranslate2.converters.TransformersConverter(str(model))
    converter.convert(str(target / "encoder"), quantization=None if precision == "float32" else precision)
    head = transformers.RobertaForSequenceClassification.from_pretrained(model).classifier
    np.savez(target / "head.npz", **{name: one.detach().numpy() for name, one in head.named_parameters()})
