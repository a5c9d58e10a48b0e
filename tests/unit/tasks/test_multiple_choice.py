"""One of several choices: how they are read, the loss over each question's own, windows, scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests import tiny
from unmask.data.choices import COLUMNS
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.tasks.base import Row
from unmask.tasks.choice_reader import ChoiceFeatures, ChoicePrediction
from unmask.tasks.multiple_choice import MultipleChoice

LONG = " ".join(f"Number {number} is a lovely film." for number in range(30))


def row(*choices: str, question: str = "What?", context: str = "", answer: int = 0) -> Row:
    return {"text": question, "context": context, "choices": list(choices), "answer": answer}


def ids(text: str) -> list[int]:
    return tiny.tokenizer().encode([text])[0].ids.tolist()


def test_a_choice_stands_behind_its_question_and_both_behind_their_text() -> None:
    task = tiny.multiple_choice()
    first, second = task.encode([row("a film", "a day", question="Which one?")])
    assert first.input_ids.tolist() == [0, *ids("Which one?"), 2, 2, *ids("a film"), 2]
    assert second.input_ids.tolist() == [0, *ids("Which one?"), 2, 2, *ids("a day"), 2]
    first, _ = task.encode([row("a film", "a day", question="Which one?", context="The cat sat.")])
    assert first.input_ids.tolist() == [0, *ids("The cat sat."), 2, 2, *ids("Which one? a film"), 2]


def test_a_gap_is_filled_with_the_choice() -> None:
    task = tiny.multiple_choice()
    first, _ = task.encode([row("film", "day", question="a lovely __ it was")])
    assert first.input_ids.tolist() == [0, *ids("a lovely film it was"), 2]
    first, _ = task.encode([row("film", "day", question="a _ .", context="The cat sat.")])
    assert first.input_ids.tolist() == [0, *ids("The cat sat."), 2, 2, *ids("a film ."), 2]
    first, _ = task.encode([row("百尺竿头", "一日千里", question="希望能____再进一步。")])
    assert first.input_ids.tolist() == [0, *ids("希望能百尺竿头再进一步。"), 2]
    first, _ = task.encode([row("film", "day", question="a dunder __init__ or x__y")])
    assert first.input_ids.tolist() == [0, *ids("a dunder __init__ or x__y"), 2, 2, *ids("film"), 2]
    first, _ = task.encode([row(r"\1 film", "day", question="a snake_case name")])
    assert first.input_ids.tolist() == [0, *ids("a snake_case name"), 2, 2, *ids(r"\1 film"), 2]


def test_a_long_text_is_seen_in_windows_and_the_choice_stands_in_each() -> None:
    task = tiny.multiple_choice(stride=16)
    features = task.encode([row("a film", "a day", context=LONG)], is_training=True)
    numbers = [one.choice for one in features if isinstance(one, ChoiceFeatures)]
    assert numbers == sorted(numbers)
    assert numbers.count(0) == numbers.count(1) > 3
    held = ids("What? a film")
    assert all(one.input_ids[-1 - len(held) : -1].tolist() == held for one in features if one.choice == 0)
    assert sum(one.num_truncated for one in features) == 0
    cut = tiny.multiple_choice(long_texts="cut").encode([row("a film", "a day", context=LONG)])
    assert len(cut) == 2
    assert all(one.truncated_share > 0.5 for one in cut)


def test_of_a_long_question_the_end_with_the_choice_is_kept() -> None:
    task = tiny.multiple_choice()
    first, *_ = task.encode([row("a film", "a day", question="why " * 60, context="The cat sat.")])
    assert first.input_ids[-1 - len(ids(" a film")) : -1].tolist() == ids(" a film")
    assert first.num_truncated > 0


def test_the_loss_is_a_softmax_over_the_choices_of_each_question() -> None:
    task = tiny.multiple_choice(stride=16)
    rows = [row("a", "b", answer=1), row("c", "d", "e", context=LONG, answer=2), row("f", "g", "h", "i", answer=0)]
    features = task.encode(rows, is_training=True)
    order = [at for number in (2, 0, 1) for at, one in enumerate(features) if one.row == number]
    batch = task.collate([features[at] for at in order])
    logits = torch.randn(len(features), 1, requires_grad=True)
    wanted = torch.zeros(())
    for number, asked in enumerate(rows):
        scores = [
            torch.stack([logits[at, 0] for at, place in enumerate(order)
                         if (features[place].row, features[place].choice) == (number, choice)]).amax()
            for choice in range(len(asked["choices"]))
        ]  # fmt: skip
        wanted = wanted + F.cross_entropy(torch.stack(scores), torch.tensor(asked["answer"]))
    found = task.loss(logits, batch)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(one, logits)[0] for one in (found, wanted)))
    assert batch.num_targets == 3


def test_the_answer_is_the_choice_with_the_greatest_window() -> None:
    task = tiny.multiple_choice(stride=16)
    asked = row("a film", "a day", "a cat", context=LONG)
    features = task.encode([asked])
    logits = [np.array([-5.0 - one.choice], np.float32) for one in features]
    logits[[one.choice for one in features].index(1) + 2][0] = 3.0
    found = task.decode(logits, features, asked)
    assert (found.answer, found.index) == ("a day", 1)
    assert found.score == max(found.scores) > 0.99
    assert sum(found.scores) == pytest.approx(1.0)
    assert found.summary() == f"a day\t1\t{found.score:.4f}"


def test_scores_mistakes_and_guessing() -> None:
    task = tiny.multiple_choice()
    rows = [row("a", "b"), row("c", "d", "e", "f", question="Who?", context=LONG, answer=3)]
    answers = [ChoicePrediction("a", 0, 0.6, (0.6, 0.4)), ChoicePrediction("d", 1, 0.7, (0.1, 0.7, 0.1, 0.1))]
    scores = task.score(answers, rows)
    assert scores["accuracy"] == 0.5
    assert scores["chance"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert scores["interval"] == (0.0, 1.0)
    (mistake,) = task.mistakes(answers, rows)
    assert (mistake.label, mistake.answer, mistake.score) == ("f", "d", 0.7)
    assert mistake.text == LONG[:500] + "...\nWho?"
    assert task.row_scores(answers, rows) == [1.0, 0.0]


def test_choices_may_come_as_one_text_and_rows_need_no_context() -> None:
    task = tiny.multiple_choice()
    (answer,) = Predictor(task)([("What?", "a film | a day|a cat")])
    assert answer.answer in ("a film", "a day", "a cat")
    assert len(answer.scores) == 3
    assert Predictor(task)([{"text": "What?", "choices": ["a film", "a day", "a cat"]}]) == [answer]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (row("a"), "two or more choices"),
        (row("a", " "), "two or more choices"),
        ({"text": "What?"}, "two or more choices"),
        (row("a", "b", answer=-1), "answer is not known"),
        (row("a", "b", answer=2), "none of the choices"),
        (row("a", "b", question=" "), "empty"),
    ],
)
def test_bad_rows_name_their_place(asked: Row, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        tiny.multiple_choice().encode([row("a", "b"), asked], is_training=True)
    assert caught.value.details["place"] == "text 2"


def test_what_a_file_is_and_which_rows_belong_together() -> None:
    rows = [row("a", "b", context=LONG), row("a", "b", "c", context=LONG), row("d", "e")]
    found = MultipleChoice.understand(Table(Path("t.json"), COLUMNS, rows, [1, 2, 3], "choices"), {})
    assert found.notes == ["3 questions about 1 texts | 2 to 3 choices each"]
    with pytest.raises(DataError, match="does not hold questions with choices"):
        MultipleChoice.understand(Table(Path("t.csv"), ("text",), [{"text": "a"}], [1]), {})
    settings = tiny.multiple_choice().settings
    assert [MultipleChoice.group(one, settings) for one in rows] == [LONG, LONG, None]
    assert MultipleChoice.texts(rows[0], settings) == [LONG, "What?", "a", "b"]
    assert MultipleChoice.texts(rows[2], settings) == ["What?", "d", "e"]


def test_dropout_stands_only_before_the_last_layer() -> None:
    head = tiny.multiple_choice(head_dropout=0.3).head
    assert (head.dropout_before, head.dropout) == (0.0, 0.3)


def test_the_example_of_the_model_card_can_be_asked() -> None:
    task = tiny.multiple_choice()
    assert len(Predictor(task)([task.example("a lovely film")])[0].scores) == 2
