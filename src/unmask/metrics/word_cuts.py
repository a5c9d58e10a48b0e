"""How sacrebleu cuts texts into words; apart from the scores, whose packages take long to import."""

from typing import Literal

Words = Literal["13a", "intl", "zh", "char", "none"]
