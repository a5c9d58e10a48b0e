"""Scores of written texts, against the published examples and the libraries' own defaults."""

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from unmask.errors import UsageError
from unmask.metrics import generation as room
from unmask.metrics.generation import closeness, generation

# Of sacrebleu's README: the corpus score of this system is 48.53.
SYSTEM = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]


def test_corpus_scores_are_those_of_the_libraries() -> None:
    found = generation(SYSTEM, REFERENCES)
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(SYSTEM, [REFERENCES]).score)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(SYSTEM, [REFERENCES]).score)
    default = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [default.score(b, a)[name].fmeasure for a, b in zip(SYSTEM, REFERENCES, strict=True)]
        assert getattr(found, name) == pytest.approx(100 * sum(each) / 3)
    assert found.exact_match == pytest.approx(100 / 3)
    assert found.bleu_signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a")


def test_bleu_by_hand() -> None:
    found = generation(["the cat sat on the mat today"], ["the cat sat on the mat yesterday"])
    precisions = (6 / 7, 5 / 6, 4 / 5, 3 / 4)
    product = 1.0
    for one in precisions:
        product *= one
    assert found.bleu == pytest.approx(100 * product**0.25)
    assert found.rouge1 == pytest.approx(100 * 6 / 7)
    assert found.rouge2 == pytest.approx(100 * 5 / 6)
    assert found.length_ratio == 1.0


def test_texts_without_spaces_and_with_accents_are_cut_into_words() -> None:
    chinese = generation(["今天天气很好"], ["今天天气不好"], words="zh")
    assert chinese.rouge1 == pytest.approx(100 * 5 / 6)
    assert 0 < chinese.bleu < 100
    german = generation(["Männer spielen Fußball"], ["Manner spielen Fußball"])
    assert german.rouge1 == pytest.approx(100 * 2 / 3)


def test_rouge_knows_no_case_and_bleu_does() -> None:
    shouted = generation(["THE CAT SAT DOWN"], ["the cat sat down"])
    assert shouted.rouge1 == pytest.approx(100)
    assert shouted.bleu == 0


def test_perfect_and_empty_texts() -> None:
    assert generation(REFERENCES, REFERENCES).chrf == pytest.approx(100)
    nothing = generation(["", "", ""], REFERENCES)
    assert (nothing.chrf, nothing.bleu, nothing.rouge1, nothing.length_ratio) == (0, 0, 0, 0)
    assert closeness("a b", "a b") == pytest.approx(1)
    assert closeness("", "a b") == 0


def test_as_many_texts_as_references() -> None:
    with pytest.raises(ValueError, match="1 texts, 2 references"):
        generation(["a"], ["a", "b"])


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "sacrebleu", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        generation(SYSTEM, REFERENCES)
    assert "unmask[generation]" in str(caught.value)
