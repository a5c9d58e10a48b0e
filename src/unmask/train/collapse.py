"""Whether a fine-tuning has collapsed: it gives one answer to everything (Mosbach et al. 2021, section 3)."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from unmask.tasks.base import Prediction
from unmask.tasks.choice_reader import ChoicePrediction
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction
from unmask.tasks.number_reader import NumberPrediction
from unmask.tasks.span_reader import AnswerPrediction
from unmask.tasks.tag_reader import TagPrediction

_TOLERANCE = 0.99
_DIGITS = 4


def why_collapsed(
    *, loss: float | None, score: float, train: Sequence[str], answers: Sequence[Prediction], gold: Sequence[str]
) -> str | None:
    """Say why a run counts as collapsed; `None` for one that has learned something.

    Args:
        loss: mean loss over the targets in the last epoch, in nats; `None` where it is no cross-entropy of the strata.
        score: on the dev rows.
        train: strata of the rows trained on, such as their classes.
        answers: of the kept model to the dev rows.
        gold: strata of the dev rows.
    """
    if math.isnan(score):
        return "the score is no number"
    if loss is not None and loss >= _TOLERANCE * (limit := entropy(train)):
        return f"the training loss ends at {loss:.3f}, the entropy of the classes is {limit:.3f}"
    return "all dev rows get one answer" if is_one_answer(answers, gold) else None


def is_one_answer(answers: Sequence[Prediction], gold: Sequence[str]) -> bool:
    """Whether all rows get the same answer, or nothing is found in any, where the strata of the rows say otherwise."""
    given = {_gist(one) for one in answers}
    is_wanted = len(set(gold)) > 1 or (given == {()} and any(gold))
    return len(given) == 1 and None not in given and is_wanted


def entropy(strata: Sequence[str]) -> float:
    """Entropy of the frequencies of strata, in nats: the cross-entropy of answering with the frequencies alone."""
    return -sum(n / len(strata) * math.log(n / len(strata)) for n in Counter(strata).values())


def _gist(answer: Prediction) -> Hashable:
    """What must not be the same for all rows; `()` where nothing is found, `None` for answers that are not judged."""
    match answer:
        case ClassPrediction():
            return max(answer.scores, key=answer.scores.__getitem__)
        case LabelsPrediction():
            return answer.labels
        case ChoicePrediction():
            return answer.index
        case AnswerPrediction():
            return answer.answer or ()
        case NumberPrediction():
            return round(answer.value, _DIGITS)
        case TagPrediction():
            return tuple((one.start, one.end, one.label) for one in answer.spans)
    return None
