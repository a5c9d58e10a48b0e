"""RoBERTa, the whole recipe: from a folder of text to a model that answers.

The public names load on first use, so that `import unmask` and the command line start without torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Predictor": "unmask.predict",
    "Tokenizer": "unmask.tokenizer.load",
    "UnmaskError": "unmask.errors",
}
__all__ = ["Predictor", "Tokenizer", "UnmaskError"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'unmask' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
