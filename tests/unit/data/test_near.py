"""Equal and near texts, against a search that compares all pairs."""

import random
from itertools import combinations

import numpy as np
import pytest

from unmask.data.near import SHINGLE, find_copies, jaccard, normal

WORDS = "the cat sat on a mat while rain fell over every old roof in town and nobody went outside that day"


def changed(text: str, draw: random.Random, times: int) -> str:
    for _ in range(times):
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(["x", "", "yy", " "]) + text[at + 1 :]
    return text


def sample(draw: random.Random) -> list[str]:
    texts = [" ".join(draw.choices(WORDS.split(), k=draw.randrange(1, 40))) for _ in range(70)]
    texts += [changed(draw.choice(texts), draw, draw.randrange(0, 5)) for _ in range(70)]
    texts += ["", "a", "ab", "\u5929\u6c14\u5f88\u597d", "\u5929\u6c14\u5f88\u597d\u3002"]
    draw.shuffle(texts)
    return texts


@pytest.mark.parametrize("seed", range(2))
def test_all_pairs_are_found(seed: int) -> None:
    texts = sample(random.Random(seed))
    copies = find_copies(texts)
    keys = [normal(text) for text in texts]
    assert copies.equal.tolist() == [keys.index(key) for key in keys]
    firsts = sorted({keys.index(key) for key in keys})
    parts = {at: [keys[at][start : start + SHINGLE] for start in range(len(keys[at]))] for at in firsts}
    wanted = {
        (one, other) for one, other in combinations(firsts, 2) if _slow_similarity(parts[one], parts[other]) >= 0.8
    }
    assert len(wanted) > 10
    assert {pair[:2] for pair in copies.near} == wanted


def _slow_similarity(one: list[str], other: list[str]) -> float:
    shared = [part for part in dict.fromkeys(one) if part in other]
    return len(shared) / max(1, len(dict.fromkeys(one + other)))


def test_case_width_and_space_do_not_count() -> None:
    assert find_copies(["A  cat\n", "a cat", "\uff21 CAT", "a dog"]).equal.tolist() == [0, 0, 0, 3]


def test_similarity_is_told() -> None:
    text = "a somewhat longer text about cats and dogs"
    ((first, second, similarity),) = find_copies(["other", text, text + "!"]).near
    assert (first, second, similarity) == (1, 2, jaccard(text, text + "!"))
    assert 0.8 <= similarity < 1


def test_nothing_is_near_to_nothing() -> None:
    assert find_copies([]).near == []
    assert find_copies(["", " ", "\n"]).equal.tolist() == [0, 0, 0]
    assert find_copies(["", "a", "b"]).near == []


def test_many_texts_in_one_bucket_stay_few_pairs() -> None:
    texts = [f"the same long template of an automatic message number {at}" for at in range(120)]
    copies = find_copies(texts)
    assert np.array_equal(copies.equal, np.arange(120))
    assert 120 <= len(copies.near) < 120 * 119 / 2
    assert {late for _, late, _ in copies.near} == set(range(1, 120))
