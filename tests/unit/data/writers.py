"""Writers of tagged files, for tests that read them again."""

import json
import re
from pathlib import Path

from unmask.data.rows import Table
from unmask.data.spans import fit, units
from unmask.data.tags import Scheme, TagSet, tags_for


def write_conll(table: Table, path: Path, scheme: Scheme = "bio") -> None:
    """Write a table of the form `tagged` as two columns, word and tag, with a tab between them.

    Rows without words are cut into units; spans that do not stand on words are an error.

    Args:
        table: rows with `text`, `words` and `spans`.
        path: target.
        scheme: of the tags; `word` needs one span on each word.

    Raises:
        DataError: a span is off.
    """
    names = sorted({span.label for row in table.rows for span in row["spans"]})
    tagset = TagSet(tags_for(names, scheme), scheme)
    blocks = []
    for at, row in enumerate(table.rows):
        text, spans = row["text"], row["spans"]
        words = row["words"] if row["words"] is not None else units(text)
        ids = tagset.ids_of(fit(text, spans, words, place=table.place(at)), len(words))
        tags = [tagset.tags[id] if id is not None else "_" for id in ids]
        forms = [text[start:end] for start, end in words]
        assert not any(re.search(r"[\t\n\r]", form) for form in forms), "a word holds a tab or a line end"
        blocks.append("".join(f"{form}\t{tag}\n" for form, tag in zip(forms, tags, strict=True)))
    path.write_text("\n".join(blocks), "utf-8")


def write_span_json(table: Table, path: Path) -> None:
    """Write a table of the form `tagged` as JSON Lines: `{"text", "spans": [{"start", "end", "label"}]}`; the words
    are not kept.

    Args:
        table: rows with `text` and `spans`.
        path: target.
    """
    objects = [
        {
            "text": row["text"],
            "spans": [{"start": one.start, "end": one.end, "label": one.label} for one in row["spans"]],
        }
        for row in table.rows
    ]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects), "utf-8")
