"""Small real parts for tests: a trained tokenizer, tiny encoders, texts with something to learn."""

import functools
from pathlib import Path

from unmask.checkpoint import save_model
from unmask.model.config import EncoderConfig
from unmask.tasks.base import Task
from unmask.tasks.classification import Classification, ClassificationSettings
from unmask.tasks.masked_lm import MaskedLM, MaskedLMSettings
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train

GOOD = ("a fine and lovely film", "great acting, a joy", "I love this bright story", "what a wonderful day")
BAD = ("a dull and awful film", "poor acting, a bore", "I hate this grey story", "what a terrible day")
STORY = (
    "The cat sat on the mat. It looked at the moon. Nobody saw it there.\n"
    "In the morning the dog came home. The cat was gone! Where had it been?"
)


@functools.cache
def tokenizer() -> Tokenizer:
    """A byte-level BPE of 400 pieces, trained on the texts above."""
    return train([*GOOD, *BAD, STORY] * 3, vocab_size=400)


def config(**changes: object) -> EncoderConfig:
    """Two layers of width 32 for texts of up to 64 tokens, without dropout."""
    sizes = {
        "vocab_size": tokenizer().vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_length": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return EncoderConfig(**(sizes | changes))


def classifier(**changes: object) -> Classification:
    """A classifier of good and bad with random weights."""
    settings = ClassificationSettings(labels=("bad", "good"), head_dropout=0.0)
    task = Classification(config(**changes), tokenizer(), settings)
    task.init_weights(0)
    return task


def masked_lm(**changes: object) -> MaskedLM:
    """A masked language model with random weights."""
    task = MaskedLM(config(**changes), tokenizer(), MaskedLMSettings())
    task.init_weights(0)
    return task


def rows_of(task: Task) -> list[dict[str, str]]:
    """Eight rows that the task can learn by heart."""
    if task.name == "masked_lm":
        return [{"text": text} for text in (*GOOD, *BAD)]
    return [{"text": text, "label": "good"} for text in GOOD] + [{"text": text, "label": "bad"} for text in BAD]


def saved(task: Task, folder: Path, *, name: str | None = None, golden: dict | None = None) -> Path:
    """Write a task's model folder; `name` puts another task's name into it."""
    save_model(
        folder,
        config=task.config,
        state_dict=task.state_dict(),
        tokenizer=task.tokenizer,
        head=task.head_name,
        labels=task.labels,
        meta={"task": {"name": name or task.name, "settings": task.settings.model_dump(mode="json")}},
        card="",
        golden=golden,
    )
    return folder
