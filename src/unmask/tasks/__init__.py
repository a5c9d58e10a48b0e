"""What a model is used for: one file a task, found by name in one table and imported when chosen."""

import difflib
import importlib
from typing import TYPE_CHECKING

from unmask.errors import UsageError

if TYPE_CHECKING:
    from unmask.tasks.base import Task

TASKS = {
    "classification": "unmask.tasks.classification:Classification",
    "embedding": "unmask.tasks.embedding:Embedding",
    "masked_lm": "unmask.tasks.masked_lm:MaskedLM",
    "multiple_choice": "unmask.tasks.multiple_choice:MultipleChoice",
    "regression": "unmask.tasks.regression:Regression",
    "seq2seq": "unmask.tasks.seq2seq:Seq2Seq",
    "span_qa": "unmask.tasks.span_qa:SpanQA",
    "tagging": "unmask.tasks.tagging:Tagging",
    "zero_shot": "unmask.tasks.zero_shot:ZeroShot",
}


def find_task(name: str) -> "type[Task]":
    """The class of a task, by its name in `TASKS` or as `module:Class` from outside the package.

    Raises:
        UsageError: there is no such task.
    """
    path = TASKS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, TASKS, n=1)
        raise UsageError(
            "unknown-task",
            f"there is no task '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
            expected=f"one of {', '.join(TASKS)}, or module:Class",
        )
    try:
        task: type[Task] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError("unknown-task", f"the task cannot be imported: {error}", value=name) from None
    if not isinstance(getattr(task, "settings_class", None), type):
        raise UsageError("unknown-task", f"'{name}' is no task", expected="a subclass of unmask.tasks.base.Task")
    return task
