"""Which task a labelled file is for: by the form of its rows, the names of its columns, and their values."""

from collections.abc import Mapping

from unmask.data.files import kind
from unmask.data.names import LABEL_NAMES, LANGUAGES, SCORE_NAMES
from unmask.data.rows import Form, Table
from unmask.tasks import TASKS

SOURCE_NAMES = {
    "source": ("target",),
    "src": ("tgt", "trg"),
    "input": ("output",),
    "document": ("summary",),
    "article": ("summary", "highlights", "headline", "title"),
    "text": ("summary", "headline", "title"),
}
ALIKE_NAMES = (("anchor", "positive"), ("query", "positive"), ("sent0", "sent1"))
MANY = 20
"""So many different numbers are measured and not chosen from a list."""

_BY_FORM: dict[Form, str] = {"tagged": "tagging", "questions": "span_qa", "choices": "multiple_choice"}
_LAST = "classification"


def choose(table: Table, named: Mapping[str, str]) -> str:
    """Name of the task that a file is for; always one of `TASKS`, at the least `classification`.

    Args:
        table: of any form.
        named: columns that the user named: `text_column`, `pair_column`, `label_column`.
    """
    name = _BY_FORM.get(table.form) or _of_table(table, named)
    return name if name in TASKS else _LAST


def _of_table(table: Table, named: Mapping[str, str]) -> str:
    names = {name.strip().lower(): name for name in table.columns}
    if any({*pair} <= names.keys() for pair in ALIKE_NAMES):
        return "embedding"
    label = named.get("label_column")
    if _is_score(table, [label] if label else [names[name] for name in (*LABEL_NAMES, *SCORE_NAMES) if name in names]):
        return "regression"
    if label is None and _is_text_to_text(table, names):
        return "seq2seq"
    if kind(table.path) == ".txt" and table.columns == ("text",):
        return "embedding"  # nothing but texts: they are told from each other (SimCSE)
    return _LAST


def _is_score(table: Table, columns: list[str]) -> bool:
    """Whether the first of the columns holds measured numbers."""
    if not columns:
        return False
    values = {str(row[columns[0]]) for row in table.rows if isinstance(row.get(columns[0]), str)}
    if not all(map(_is_number, values)):
        return False
    has_fractions = any("." in value for value in values)
    return has_fractions and (len(values) > MANY or columns[0].strip().lower() in SCORE_NAMES)


def _is_text_to_text(table: Table, names: Mapping[str, str]) -> bool:
    """Whether two columns are a text and what is to be made of it, by their names, or alone in a file without any.

    Beside a column of labels they are not: an article with its title and its topic is to be classified.
    """
    for source, targets in SOURCE_NAMES.items():
        for target in targets:
            if source in names and target in names:
                is_labelled = any(name in names for name in LABEL_NAMES if name != target)
                return not is_labelled and _is_varied(table, names[target])
    two = [name for name in table.columns if name.lower() in LANGUAGES or name.isdigit()]
    return len(two) == len(table.columns) == 2 and all(_is_varied(table, name) for name in two)


def _is_varied(table: Table, column: str) -> bool:
    """Whether most rows have a value of their own."""
    return 2 * len({row[column] for row in table.rows}) > len(table.rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity")
