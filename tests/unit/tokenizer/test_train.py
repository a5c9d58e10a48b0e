"""Training: RoBERTa's ids, determinism, the bound of the sample, Chinese not glued, and the self-check."""

import itertools
from collections.abc import Iterator

import pytest

from tests.unit.tokenizer.samples import CHINESE, ENGLISH, NASTY, TEXTS
from unmask.errors import DataError, UsageError
from unmask.tokenizer import train as training
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import Sample, train, train_with_report

HAN = range(0x4E00, 0xA000)
CLAUSE = "\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd"


def pieces_of(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.piece(id) for id in tokenizer.ids()]


def test_ids_are_robertas() -> None:
    tokenizer = train(TEXTS, vocab_size=400)
    assert [tokenizer.piece(id) for id in (0, 1, 2, 3, 399)] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.special_ids.tolist() == [0, 1, 2, 3, 399]
    assert (tokenizer.vocab_size, tokenizer.mask_id, tokenizer.family) == (400, 399, "roberta")


def test_every_byte_has_an_id() -> None:
    tokenizer = train(["a"], vocab_size=261)
    for byte in range(256):
        assert len(tokenizer.encode_ids([chr(byte)])[0]) in (1, 2)
    for text in NASTY:
        assert tokenizer.decode(tokenizer.encode_ids([text])[0]) == text


def test_the_same_texts_give_the_same_tokenizer() -> None:
    first = train(TEXTS, vocab_size=420)
    assert all(train(iter(TEXTS), vocab_size=420).fingerprint == first.fingerprint for _ in range(3))
    assert train(TEXTS[1:], vocab_size=420).fingerprint != first.fingerprint


def test_special_strings_in_the_text_make_no_special_piece() -> None:
    tokenizer = train(["<s>struck</s> <mask> <pad>"] * 50, vocab_size=300)
    ids = tokenizer.encode_ids(["<s>struck</s> <mask> <pad>"])[0]
    assert not set(ids.tolist()) & set(tokenizer.special_ids.tolist())


def test_chinese_is_not_glued() -> None:
    texts = [CLAUSE + "\uff0c" + text for text in CHINESE for _ in range(50)]
    glued = max(sum(ord(char) in HAN for char in piece) for piece in pieces_of(train(texts, vocab_size=320)))
    assert glued == 1
    plain = train(texts, vocab_size=320, isolate_han=False)
    assert max(sum(ord(char) in HAN for char in piece) for piece in pieces_of(plain)) >= len(CLAUSE)


def test_isolation_of_han_changes_nothing_elsewhere() -> None:
    texts = [text for text in TEXTS if text not in CHINESE]
    isolated, plain = train(texts, vocab_size=400), train(texts, vocab_size=400, isolate_han=False)
    for text in texts:
        assert isolated.encode_ids([text])[0].tolist() == plain.encode_ids([text])[0].tolist()
    assert isolated.fingerprint != plain.fingerprint


def test_rulers_do_not_become_pieces() -> None:
    texts = ["=" * 500, "x" * 500] * 20
    assert max(map(len, pieces_of(train(texts, vocab_size=300)))) <= training.MAX_TOKEN_BYTES
    assert max(map(len, pieces_of(train(texts, vocab_size=300, max_token_bytes=4)))) == len("<mask>")


@pytest.mark.parametrize(
    ("estimate", "least"), [(None, 0.85), (1_000_000, 0.85), (100_000, 0.85), (10_000, 0.85), (5_000_000, 0.1)]
)
def test_sample_keeps_its_bound_whatever_the_estimate(estimate: int | None, least: float) -> None:
    sample = Sample(100_000, estimate)
    taken = [index for index in range(10_000) if sample.takes(100)]
    assert least * 100_000 <= sample.bytes_used <= 100_000
    assert (sample.texts_seen, sample.bytes_seen) == (10_000, 1_000_000)
    assert sample.texts_used == len(taken) == sample.bytes_used // 100


def test_sample_is_even_and_depends_on_nothing_but_the_order() -> None:
    sample, again, other = Sample(100_000, 1_000_000), Sample(100_000, 1_000_000), Sample(100_000, 1_000_000, key=1)
    taken = [sample.takes(100) for _ in range(10_000)]
    assert taken == [again.takes(100) for _ in range(10_000)]
    assert taken != [other.takes(100) for _ in range(10_000)]
    tenths = [sum(taken[start : start + 1000]) for start in range(0, 10_000, 1000)]
    assert all(60 <= count <= 120 for count in tenths)


def test_an_underestimate_still_reaches_the_end_of_the_stream() -> None:
    sample = Sample(100_000, 200_000)
    taken = [index for index in range(10_000) if sample.takes(100)]
    assert sample.bytes_used <= 100_000
    assert max(taken) > 8_000


def test_a_small_stream_is_taken_whole() -> None:
    sample = Sample(100_000, 90_000)
    assert all(sample.takes(900) for _ in range(100))


def test_training_uses_the_sample_and_says_so() -> None:
    texts = list(itertools.islice(itertools.cycle(TEXTS), 2000))
    total = sum(len(text.encode()) for text in texts)
    tokenizer, report = train_with_report(texts, vocab_size=300, max_bytes=20_000, total_bytes=total)
    assert (report.texts_seen, report.bytes_seen) == (2000, total)
    assert 10_000 < report.bytes_used <= 20_000
    assert report.texts_used < 2000
    assert (report.vocab_size, report.learned) == (300, tokenizer.vocab_size) == (300, 300)
    assert report.seconds > 0
    assert f"trained on {report.bytes_used:,} of {total:,} bytes" in str(report)


def test_one_huge_text_is_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_CHUNK_CHARS", 100)
    text = " ".join(itertools.islice(itertools.cycle(" ".join(ENGLISH).split()), 3000))
    parts = list(training.parts_of(text))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 100
    assert all(part.startswith(" ") for part in parts[1:])
    assert [len(part) for part in training.parts_of("x" * 250)] == [100, 100, 50]
    whole = train([text], vocab_size=400)
    _, report = train_with_report([text], vocab_size=400, max_bytes=2_000, total_bytes=len(text))
    assert 1_000 < report.bytes_used <= 2_000
    monkeypatch.undo()
    assert train([text], vocab_size=400).fingerprint == whole.fingerprint


def test_a_frequent_word_that_is_split_is_reported() -> None:
    texts = [*["harbour"] * 400, *["sailor walked"] * 300, *TEXTS]
    _, good = train_with_report(texts, vocab_size=340)
    assert good.checked_words > 0
    assert good.split_words == ()
    assert "warning" not in str(good)
    _, broken = train_with_report(texts, vocab_size=340, max_token_bytes=3)
    assert [(found.word, found.count) for found in broken.split_words][:2] == [("harbour", 403), ("sailor", 303)]
    assert "".join(broken.split_words[0].pieces).strip() == "harbour"
    assert "not one piece: harbour (403)" in str(broken)


def test_a_text_with_too_few_pairs_is_said() -> None:
    tokenizer, report = train_with_report(["abab"] * 3, vocab_size=5000)
    assert report.learned == tokenizer.vocab_size < 300
    assert tokenizer.mask_id == tokenizer.vocab_size - 1
    assert "no more frequent pairs" in str(report)


@pytest.mark.parametrize("max_bytes", [0, -1, 2**31])
def test_max_bytes_out_of_range(max_bytes: int) -> None:
    with pytest.raises(UsageError, match="max-bytes"):
        train(TEXTS, vocab_size=300, max_bytes=max_bytes)


def test_wrong_input() -> None:
    with pytest.raises(UsageError, match="at least 261"):
        train(TEXTS, vocab_size=260)
    for texts in ([], [""], ["", ""]):
        with pytest.raises(DataError, match="no-text"):
            train(texts, vocab_size=300)
    with pytest.raises(DataError, match="text 2, character 3"):
        train(["fine", "ab\ud800"], vocab_size=300)


def test_an_error_of_the_stream_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "text"
        raise DataError("bad-line", "the line is broken", place="file:2")

    with pytest.raises(DataError, match="bad-line"):
        train(broken(), vocab_size=300)
