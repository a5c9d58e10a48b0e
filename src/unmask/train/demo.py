"""The demo: every stage of the main path on the text that comes with the package, small enough for a minute."""

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path

from unmask import bundled
from unmask.config import load_recipe, resolve
from unmask.data.rows import read_table
from unmask.errors import UsageError
from unmask.evaluate import evaluate
from unmask.predict import Predictor
from unmask.train.build import build
from unmask.train.finetune import finetune
from unmask.train.settings import BuildSettings

log = logging.getLogger("unmask")

_MASKED = ("Alice looked at the <mask> of the house.", "The dog ran into the <mask>.")
_MESSAGES = (
    "URGENT! You have won a free holiday prize. Call 09061701461 now to claim.",
    "Are you coming home for dinner tonight?",
    "Txt WIN to 80082 for your chance to get a free phone, 150p per msg",
)


def demo(output: Path, *, seed: int, tell: Callable[[str], None]) -> None:
    """Raw text to answers.

    Args:
        output: folder for everything that is made.
        seed: decides weights, order, masks and dropout.
        tell: gets each line of results.

    Raises:
        UsageError: `output` exists.
    """
    if output.exists():
        raise UsageError(
            "exists", "the demo's folder exists already", place=output, remedy="remove it or name --output"
        )
    start = time.perf_counter()
    books = sorted((bundled.FOLDER / "text-en").glob("*.txt"))
    stage = _Stages()

    log.info("from four novels, a small RoBERTa of their own:")
    settings = resolve(
        BuildSettings, {"vocab_size": 4096}, {"pretrain": load_recipe("demo", "pretrain") | {"seed": seed}}
    )
    pretrained = build(books, output, settings, processes=1, on_stage=stage)

    stage(f"fine-tuning {bundled.ENGLISH}, the encoder that comes with unmask, to tell spam from other messages")
    spam = bundled.FOLDER / "sms-spam"
    given = ({"seed": seed, "epochs": 2, "batch_size": 16, "log_every": 100},)
    english = bundled.bundled_model(bundled.ENGLISH)
    finetuned = finetune(spam / "train.tsv", output / "finetune", model=english, given=given)

    stage("scoring it on messages it has never seen")
    classifier = Predictor.load(finetuned.model)
    result = evaluate(classifier, read_table(spam / "test.tsv"))
    low, high = result.scores["interval"]
    tell(
        f"accuracy {result.main_score:.3f} (95 % interval {low:.3f} to {high:.3f}), MCC {result.scores['mcc']:.3f}, "
        f"on {result.rows} rows"
    )

    stage("answers")
    for name, model in (("four novels", pretrained.model), (bundled.ENGLISH, english)):
        for text, filled in zip(_MASKED, Predictor.load(model)(_MASKED), strict=True):
            words = ", ".join(f"{one.token.strip()} {one.score:.2f}" for one in filled.masks[0].candidates)
            tell(f"{name:<16} {text}  ->  {words}")
    for text, answer in zip(_MESSAGES, classifier(_MESSAGES), strict=True):
        tell(f"{answer.label:<5} {answer.score:.2f}  {text}")

    tell(f"\nfrom raw text to answers in {time.perf_counter() - start:.0f} s. Everything is in {output}/:")
    for name, what in (
        ("tokenizer", "the tokenizer"),
        ("corpus", "the corpus"),
        ("pretrain/report.html", "the pre-training run as a page"),
        ("pretrain/model", "the pre-trained model, also for transformers.AutoModel"),
        ("finetune/report.html", "the fine-tuning run as a page"),
        ("finetune/model", "the classifier"),
    ):
        tell(f"  {name:<22} {what}")
    tell(f'next: unmask predict "win a prize now" --model {output}/finetune/model')
    tell("      unmask finetune your.csv --output run")


class _Stages:
    """Says which of the stages begins."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, what: str) -> None:
        log.info("\n[%d/6] %s", next(self._numbers), what)
