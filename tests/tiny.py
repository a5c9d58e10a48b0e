"""Small real parts for tests: a trained tokenizer, tiny encoders, texts with something to learn."""

import functools
from pathlib import Path
from typing import Any

from unmask.checkpoint import save_model
from unmask.data.questions import Answer
from unmask.data.spans import Span
from unmask.model.config import EncoderConfig
from unmask.tasks.base import Task
from unmask.tasks.choice_reader import MultipleChoiceSettings
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.embedding import Embedding
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.tasks.multiple_choice import MultipleChoice
from unmask.tasks.number_reader import RegressionSettings
from unmask.tasks.regression import Regression
from unmask.tasks.seq2seq import Seq2Seq
from unmask.tasks.span_qa import SpanQA
from unmask.tasks.span_reader import SpanQASettings
from unmask.tasks.tag_reader import TaggingSettings
from unmask.tasks.tagging import Tagging
from unmask.tasks.text_reader import Seq2SeqSettings
from unmask.tasks.vector_reader import EmbeddingSettings
from unmask.tasks.zero_reader import ZeroShotSettings
from unmask.tasks.zero_shot import ZeroShot
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


def embedder(**changes: object) -> Embedding:
    """Sentence vectors with random weights, for rows of a text and its pair."""
    task = Embedding(config(**changes), tokenizer(), EmbeddingSettings(pair_column="pair"))
    task.init_weights(0)
    return task


def seq2seq(**changes: object) -> Seq2Seq:
    """A writer of short texts with random weights; the settings can be changed."""
    known = {"text_column": "text", "max_target_length": 16, "label_smoothing": 0.0}
    task = Seq2Seq(config(), tokenizer(), Seq2SeqSettings.model_validate(known | changes))
    task.init_weights(0)
    return task


def regression(**changes: object) -> Regression:
    """A regression with random weights."""
    task = Regression(
        config(**changes), tokenizer(), RegressionSettings(label_column="label", high=4.0, head_dropout=0.0)
    )
    task.init_weights(0)
    return task


def zero_shot(**changes: object) -> ZeroShot:
    """A classifier of good and bad by inference, with random weights."""
    labels = ("contradiction", "neutral", "entailment")
    settings = ZeroShotSettings(labels=labels, candidate_labels=("bad", "good"), template="It is {}.")
    task = ZeroShot(config(**changes), tokenizer(), settings)
    task.init_weights(0)
    return task


def span_qa(**changes: object) -> SpanQA:
    """An answerer of questions about the story, with random weights; the settings can be changed."""
    settings = SpanQASettings.model_validate({"text_column": "text", "stride": 32} | changes)
    task = SpanQA(config(), tokenizer(), settings)
    task.init_weights(0)
    return task


def multiple_choice(*, classifier_pooling: str = "cls", **changes: object) -> MultipleChoice:
    """A chooser with random weights; the settings can be changed."""
    settings = MultipleChoiceSettings.model_validate({"text_column": "text", "head_dropout": 0.0} | changes)
    task = MultipleChoice(config(classifier_pooling=classifier_pooling), tokenizer(), settings)
    task.init_weights(0)
    return task


def tagger(**changes: object) -> Tagging:
    """A tagger of first words with random weights; the settings can be changed."""
    known = {"labels": ("BAD", "GOOD"), "scheme": "bio", "head_dropout": 0.0}
    task = Tagging(config(), tokenizer(), TaggingSettings.model_validate(known | changes))
    task.init_weights(0)
    return task


def rows_of(task: Task) -> list[dict[str, Any]]:
    """Eight rows that the task can learn by heart."""
    if task.name == "embedding":
        return [{"text": text, "pair": text[::-1]} for text in (*GOOD, *BAD)]
    if task.name == "seq2seq":
        return [{"text": text, "target": other} for text, other in zip(GOOD + BAD, BAD + GOOD, strict=True)]
    if task.name == "zero_shot":  # whether a text goes with a class would take more steps than a test has
        return [{"text": text, "label": "good"} for text in (*GOOD, *BAD)]
    if task.name == "regression":
        return [{"text": text, "label": f"{at / 2}"} for at, text in enumerate((*GOOD, *BAD))]
    if task.name == "span_qa":
        first = [Answer(text.split()[0], 0) for text in (*GOOD, *BAD)]
        return [
            {"text": "What?", "context": text, "answers": [one]} for text, one in zip((*GOOD, *BAD), first, strict=True)
        ]
    if task.name == "multiple_choice":
        pairs = zip(GOOD, BAD, strict=True)
        return [{"text": "What?", "choices": [*pair], "answer": 0} for pair in pairs] + [
            {"text": "Which?", "choices": [bad, good, bad], "answer": 1} for good, bad in zip(GOOD, BAD, strict=True)
        ]
    if task.name == "tagging":
        named = [(text, "GOOD") for text in GOOD] + [(text, "BAD") for text in BAD]
        return [{"text": text, "words": None, "spans": [Span(0, text.index(" "), name)]} for text, name in named]
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
        problem_type=task.problem_type,
        files=task.files,
    )
    return folder
