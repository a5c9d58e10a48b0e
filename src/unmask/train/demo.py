"""The demo: every stage of the main path on the text that comes with the package, small enough for a minute."""

import logging
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from unmask import storage
from unmask.config import load_recipe, resolve
from unmask.data import corpus
from unmask.data.files import read_documents
from unmask.data.rows import read_table
from unmask.errors import UsageError
from unmask.evaluate import evaluate
from unmask.predict import Predictor
from unmask.tokenizer.train import train
from unmask.train.finetune import finetune
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings

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
    bundled = Path(str(resources.files("unmask") / "bundled"))
    books = sorted((bundled / "text-en").glob("*.txt"))

    _stage(1, "a tokenizer from four novels")
    tokenizer = train((document.text for document in read_documents(books)), vocab_size=4096)
    with storage.staged(output / "tokenizer") as staging:
        tokenizer.save(staging)

    _stage(2, "a corpus: the novels as ids, with their sentences and documents")
    corpus.build(books, tokenizer_folder=output / "tokenizer", output=output / "corpus", processes=1)

    _stage(3, "pre-training a small RoBERTa from random weights: watch the loss fall")
    settings = resolve(PretrainSettings, load_recipe("demo", "pretrain"), {"seed": seed})
    pretrained = pretrain([output / "corpus"], output / "pretrain", settings)

    _stage(4, "fine-tuning it to tell spam from other messages")
    spam = bundled / "sms-spam"
    given = ({"seed": seed, "epochs": 3, "batch_size": 16, "log_every": 100, "optim": {"lr": 3e-4}},)
    finetuned = finetune(spam / "train.tsv", output / "finetune", model=pretrained.model, given=given)

    _stage(5, "scoring it on messages it has never seen")
    classifier = Predictor.load(finetuned.model)
    result = evaluate(classifier, read_table(spam / "test.tsv"))
    low, high = result.scores["interval"]
    tell(
        f"accuracy {result.main_score:.3f} (95 % interval {low:.3f} to {high:.3f}), MCC {result.scores['mcc']:.3f}, "
        f"on {result.rows} rows"
    )

    _stage(6, "answers")
    for text, filled in zip(_MASKED, Predictor.load(pretrained.model)(_MASKED), strict=True):
        tell(f"{text}  ->  " + ", ".join(f"{one.token.strip()} {one.score:.2f}" for one in filled.masks[0].candidates))
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


def _stage(number: int, what: str) -> None:
    log.info("\n[%d/6] %s", number, what)
