"""Ids, offsets and fingerprints that must never change: a corpus or a model on disk depends on them.

The folders in `tokenizer/` are in the published layouts of the three families; `golden.json` was written once, after
transformers had given the same ids for the same folders.
"""

import json
from pathlib import Path

import pytest

from tests.unit.tokenizer.samples import TEXTS, small
from unmask.tokenizer.load import Tokenizer

FOLDER = Path(__file__).parent / "tokenizer"
GOLDEN = json.loads((FOLDER / "golden.json").read_text("utf-8"))


@pytest.mark.parametrize("family", sorted(GOLDEN["families"]))
def test_published_layouts(family: str, tmp_path: Path) -> None:
    expected = GOLDEN["families"][family]
    tokenizer = Tokenizer.load(FOLDER / family)
    tokenizer.save(tmp_path)
    for opened in (tokenizer, Tokenizer.load(tmp_path)):
        assert opened.fingerprint == expected["fingerprint"]
        for case in expected["cases"]:
            plain, masked = opened.encode([case["text"]])[0], opened.encode_masked(case["text"])
            assert plain.ids.tolist() == case["ids"], case["text"]
            assert plain.offsets.tolist() == case["offsets"], case["text"]
            assert masked.ids.tolist() == case["masked_ids"], case["text"]


def test_training() -> None:
    assert small().fingerprint == GOLDEN["trained"]["isolated"]
    assert small(isolate_han=False).fingerprint == GOLDEN["trained"]["plain"]
    assert len(TEXTS) == GOLDEN["trained"]["texts"]
