"""Scores of written texts: thin over sacrebleu and rouge-score, which are in the extra `generation`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.errors import UsageError
from unmask.metrics.word_cuts import Words

try:
    import sacrebleu
    from rouge_score import rouge_scorer
except ImportError:
    sacrebleu = rouge_scorer = None

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(f"[{_HAN}]|[^\\W_{_HAN}]+")
_ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class GenerationScores:
    """How close written texts are to their references; all but the length from 0 to 100.

    Attributes:
        chrf: chrF2, of character sequences of up to 6 (Popovic 2015); the same for all scripts, never 0 by one gap.
        bleu: corpus BLEU of word sequences of up to 4 (Papineni et al. 2002), as sacrebleu computes it.
        rouge1: mean F1 of single words (Lin 2004).
        rouge2: mean F1 of pairs of words.
        rougeL: mean F1 of the longest common subsequence of words.
        exact_match: share of texts that are their reference.
        length_ratio: words of the texts over words of the references, as BLEU counts them.
        bleu_signature: how BLEU was computed, to be published with it.
    """

    chrf: float
    bleu: float
    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815, the field's name
    exact_match: float
    length_ratio: float
    bleu_signature: str


def require_scorers() -> None:
    """Look for the two packages before hours are spent.

    Raises:
        UsageError: one of them is not installed.
    """
    if sacrebleu is None:
        raise UsageError(
            "missing-extra",
            "scores of written texts need the packages sacrebleu and rouge-score, which are not installed",
            remedy="pip install 'unmask[generation]'",
        )


def generation(written: Sequence[str], references: Sequence[str], *, words: Words = "13a") -> GenerationScores:
    """Compare texts with one reference each.

    Args:
        written: one a row.
        references: one a row.
        words: sacrebleu's way to cut texts into words for BLEU: 13a for texts with spaces, zh for Chinese.

    Raises:
        UsageError: sacrebleu or rouge-score is not installed.
        ValueError: there are no texts, or not as many as references.
    """
    require_scorers()
    if not written or len(written) != len(references):
        raise ValueError(f"{len(written)} texts, {len(references)} references")
    bleu = sacrebleu.BLEU(tokenize=words)
    found = bleu.corpus_score(list(written), [list(references)])
    rouge = rouge_scorer.RougeScorer(_ROUGE, tokenizer=_Tokens())
    rows = [rouge.score(reference, text) for text, reference in zip(written, references, strict=True)]
    means = {name: 100 * float(np.mean([row[name].fmeasure for row in rows])) for name in _ROUGE}
    same = [text.strip() == reference.strip() for text, reference in zip(written, references, strict=True)]
    return GenerationScores(
        chrf=float(sacrebleu.CHRF().corpus_score(list(written), [list(references)]).score),
        bleu=float(found.score),
        **means,
        exact_match=100 * float(np.mean(same)),
        length_ratio=found.sys_len / max(1, found.ref_len),
        bleu_signature=str(bleu.get_signature()),
    )


def closeness(text: str, reference: str) -> float:
    """chrF2 of one text, from 0 to 1.

    Raises:
        UsageError: sacrebleu is not installed.
    """
    require_scorers()
    return float(sacrebleu.CHRF().sentence_score(text, [reference]).score) / 100


class _Tokens:
    """Lower-case words, and each Han character alone; on ASCII text those of rouge-score, which drops all else."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())
