"""The stream of batches: pure in the step, the same for any number of processes, and never leaking held-out text."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.unit.data.corpora import write_text, write_tokenizer
from tests.unit.data.documents import make_corpus
from unmask.data.batching import Batch
from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus, build
from unmask.data.curriculum import CurriculumSettings
from unmask.data.heldout import held_out_ranges
from unmask.data.masking import MaskingSettings
from unmask.data.settings import StreamSettings
from unmask.errors import DataError, UsageError
from unmask.tokenizer.load import Tokenizer

# One of each kind; every test of a property runs on all of them.
KINDS = {
    "full": {},
    "doc": {"input_format": "doc_sentences"},
    "isolated": {"isolate_documents": True, "masking": {"unit": "span", "mask_prob": 0.3, "mask_prob_end": 0.15}},
    "segments": {"input_format": "segment_pair", "objective": "mlm+nsp"},
    "sentences": {"input_format": "sentence_pair", "objective": "mlm+sop", "masking": {"unit": "word"}},
    "weights": {"corpus_weights": (3.0, 1.0)},
    "grown": {
        "curriculum": {
            "block_lengths": (16, 32), "block_shares": (0.25, 0.25), "start_batch_size": 4, "batch_warmup_ratio": 0.5,
        }
    },
    "rounded": {"round_tokens": 64, "round_targets": 16},
    "shifted": {"max_shift": 30, "isolate_documents": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Corpus]:
    """Two corpora of one tokenizer."""
    folder = tmp_path_factory.mktemp("corpora")
    tokenizer = write_tokenizer(folder / "tokenizer")
    made = []
    for number, size in enumerate((60, 25)):
        text = write_text(folder / f"{number}.txt", num_documents=size, seed=number)
        output = folder / f"corpus-{number}"
        build([text], tokenizer_folder=tokenizer, output=output, processes=1, shard_tokens=2000)
        made.append(Corpus.open(output))
    return made


@pytest.fixture(scope="module")
def vocabulary(corpora: list[Corpus]) -> Vocabulary:
    return Vocabulary.of(Tokenizer.load(corpora[0].tokenizer_folder))


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest) -> StreamSettings:
    return settings_of(**KINDS[request.param])


@pytest.fixture
def stream(corpora: list[Corpus], vocabulary: Vocabulary, settings: StreamSettings) -> PretrainStream:
    return PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=2)


def settings_of(**changes: object) -> StreamSettings:
    sizes = {"block_length": 64, "global_batch_size": 12, "micro_batch_size": 5, "max_steps": 20, "eval_blocks": 9}
    return StreamSettings(**(sizes | changes))


def one_corpus(corpora: list[Corpus], vocabulary: Vocabulary, **changes: object) -> PretrainStream:
    return PretrainStream(corpora[:1], settings_of(**changes), vocabulary=vocabulary, position_offset=2)


def samples_of(batches: list[Batch]) -> list[tuple]:
    """Each block of a step with all that it is made of, sorted by its identity."""
    found = []
    for batch in batches:
        assert batch.positions is not None
        assert batch.labels is not None
        places, labels = batch.positions.numpy(), batch.labels.numpy()
        for number, (start, stop) in enumerate(itertools.pairwise(batch.block_starts)):
            inside = (places >= start) & (places < stop) & (labels != -100)
            pair = None if batch.pair_labels is None else batch.pair_labels[number].item()
            types = None if batch.token_type_ids is None else tuple(batch.token_type_ids[start:stop].tolist())
            found.append(
                (
                    *batch.sample_ids[number].tolist(), int(batch.epochs[number]), pair, types,
                    tuple(batch.input_ids[start:stop].tolist()), tuple(batch.position_ids[start:stop].tolist()),
                    tuple(places[inside] - start), tuple(labels[inside]),
                )
            )  # fmt: skip
    return sorted(found, key=lambda one: one[:3])


@pytest.mark.parametrize("step", [0, 7, 15])
def test_any_number_of_processes_has_the_same_samples_and_masks(stream: PretrainStream, step: int) -> None:
    alone = samples_of(stream.batch(step))
    for world_size in (2, 4):
        parts = [stream.batch(step, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert samples_of(list(itertools.chain(*parts))) == alone
        assert len({len(part) for part in parts}) == 1


def test_a_step_does_not_know_what_came_before(
    stream: PretrainStream, corpora: list[Corpus], vocabulary: Vocabulary, settings: StreamSettings
) -> None:
    steps = [5, 19, 0, 5, 12, 40]
    fresh = [
        samples_of(PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=2).batch(step))
        for step in steps
    ]
    assert [samples_of(stream.batch(step)) for step in steps] == fresh
    for workers in (0, 2):
        following = stream.steps(5, workers=workers)
        assert [samples_of(next(following)) for _ in range(3)] == [samples_of(stream.batch(5 + at)) for at in range(3)]
        following.close()


def test_blocks_begin_at_random_places(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    """All texts of a block at the same one; words and masks stay, and what is held out is not moved."""
    plain = one_corpus(corpora, vocabulary, max_steps=1000)
    shifted = one_corpus(corpora, vocabulary, max_steps=1000, max_shift=30)
    starts: list[int] = []
    for step in range(60):
        for before, after in zip(plain.batch(step), shifted.batch(step), strict=True):
            assert torch.equal(before.input_ids, after.input_ids)
            assert torch.equal(before.labels, after.labels)
            moved = (after.position_ids - before.position_ids).numpy()
            firsts = moved[after.block_starts[:-1]]
            assert np.array_equal(moved, np.repeat(firsts, np.diff(after.block_starts)))
            starts += firsts.tolist()
    assert set(starts) == set(range(31))
    assert len(set(starts[: plain.num_training])) > 20
    for before, after in zip(plain.held_out(), shifted.held_out(), strict=True):
        assert torch.equal(before.position_ids, after.position_ids)


def test_longer_blocks_are_shifted_by_the_room_that_is_left(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    """The short blocks of a curriculum reach all places of the long ones, and no block leaves them."""
    curriculum = CurriculumSettings(block_lengths=(16,), block_shares=(0.5,))
    for max_shift, places in ((0, 48), (32, 48), (40, 56)):
        settings = StreamSettings(block_length=48, max_shift=max_shift, curriculum=curriculum, max_steps=80)
        assert settings.places == places
        stream = PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=0)
        for steps, length in ((range(40), 16), (range(40, 80), 48)):
            batches = [batch for step in steps for batch in stream.batch(step)]
            starts = {int(start) for batch in batches for start in batch.position_ids[batch.cu_seqlens[:-1]]}
            assert starts == set(range(min(max_shift, places - length) + 1))
            assert max(int(batch.position_ids.max()) for batch in batches) < places


def test_an_epoch_has_every_training_block_once(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    stream = one_corpus(corpora, vocabulary, global_batch_size=7, max_steps=1000)
    steps = -(-2 * stream.num_training // 7)
    taken = np.concatenate([batch.sample_ids[:, 1] for step in range(steps) for batch in stream.batch(step)])
    orders = taken[: 2 * stream.num_training].reshape(2, -1)
    assert len(set(orders[0].tolist())) == stream.num_training
    assert np.array_equal(np.sort(orders[0]), np.sort(orders[1]))
    assert not np.array_equal(orders[0], orders[1])
    assert stream.epochs(100) == pytest.approx(700 / stream.num_training)


def real_text(batch: Batch, start: int, stop: int, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens of a block before masking, without special ones."""
    ids = batch.input_ids.clone()
    real = batch.labels != -100
    ids[batch.positions[real]] = batch.labels[real]
    text = ids[start:stop]
    return tuple(text[~torch.isin(text, torch.from_numpy(vocabulary.special_ids.astype(np.int64)))].tolist())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("segments", "sentences")])
def test_held_out_text_is_never_trained_on(kind: str, corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    """Every training block of two epochs must be found in the training text, every held-out one in the other."""
    stream = one_corpus(corpora, vocabulary, **(KINDS[kind] | {"corpus_weights": ()}), eval_blocks=1000)
    corpus = corpora[0]
    ids = np.concatenate([shard.ids for shard in corpus.shards]).astype(np.int64)
    is_held_out = np.zeros(len(ids), bool)
    for start, stop in held_out_ranges(corpus, num_tokens=settings_of().held_out_tokens):
        is_held_out[start:stop] = True
    text = ids.tobytes()

    def sides(batches: list[Batch]) -> set[bool]:
        found = set()
        for batch in batches:
            for start, stop in itertools.pairwise(batch.block_starts):
                words = np.array(real_text(batch, start, stop, vocabulary), np.int64).tobytes()
                place = text.find(words)
                while place % 8:
                    place = text.find(words, place + 1)
                assert place >= 0
                if text.find(words, place + 8) < 0:  # Very short blocks stand in the text more than once.
                    found.update(is_held_out[place // 8 : (place + len(words)) // 8].tolist())
        return found

    steps = 2 * stream.num_training // 12 + 1
    assert sides([batch for step in range(steps) for batch in stream.batch(step)]) == {False}
    held_out = list(stream.held_out())
    assert sides(held_out) == {True}
    num_texts = sum(len(batch.block_starts) - 1 for batch in held_out)
    assert num_texts == len({tuple(ids.tolist()) for batch in held_out for ids in batch.sample_ids})


@pytest.mark.parametrize("kind", ["segments", "sentences"])
def test_pairs_keep_to_their_side(kind: str, corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    stream = one_corpus(corpora, vocabulary, **KINDS[kind], eval_blocks=1000)
    held_out = {one[1] for one in samples_of(list(stream.held_out()))}
    trained = {one[1] for step in range(200) for one in samples_of(stream.batch(step))}
    assert held_out
    assert not held_out & trained


def test_held_out_batches_ask_every_run_the_same(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    def asked(**changes: object) -> list[tuple]:
        return samples_of(list(one_corpus(corpora, vocabulary, **changes).held_out()))

    usual = asked()
    assert len(usual) == 9
    masking = MaskingSettings(unit="span", mask_prob=0.5, copies=2)
    assert usual == asked(seed=7, masking=masking, global_batch_size=3, max_steps=5)
    assert usual == samples_of(list(one_corpus(corpora, vocabulary).held_out(2)))
    numbers = np.array([one[1] for one in asked(eval_blocks=4)])
    everything = np.array([one[1] for one in asked(eval_blocks=10_000)])
    places = np.searchsorted(everything, numbers)
    assert np.ptp(np.diff(places)) <= 1, "spread evenly"


def test_tokens_of_a_step_are_alike_in_all_formats(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    def tokens(**changes: object) -> float:
        stream = PretrainStream(
            corpora, settings_of(global_batch_size=40, **changes), vocabulary=vocabulary, position_offset=2
        )
        return float(np.mean([sum(batch.num_tokens for batch in stream.batch(step)) for step in range(19)]))

    full = tokens()
    for kind in ("doc", "isolated", "segments", "sentences"):
        assert tokens(**KINDS[kind]) == pytest.approx(full, rel=0.05), kind
    shorter = {"block_lengths": (16, 32), "block_shares": (0.4, 0.4)}
    assert tokens(curriculum=shorter) == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize(
    ("shares", "reached"), [((0.25, 0.25), [0, 16, 16, 32, 32, 64]), ((0.5, 0.01), [0, 16, 16, 16, 16, 64])]
)
def test_places_that_blocks_have_reached(
    corpora: list[Corpus], vocabulary: Vocabulary, shares: tuple[float, ...], reached: list[int]
) -> None:
    """A phase may be too short for a single step."""
    longer = {"block_lengths": (16, 32), "block_shares": shares}
    stream = one_corpus(corpora, vocabulary, curriculum=longer, block_length=64, max_steps=20)
    assert [stream.reached(step) for step in (0, 1, 5, 6, 10, 11)] == reached


def test_phases_have_their_lengths(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    stream = one_corpus(corpora, vocabulary, **KINDS["grown"])
    longest = [max(int(np.diff(batch.cu_seqlens).max()) for batch in stream.batch(step)) for step in range(20)]
    assert max(longest[:5]) <= 16 < min(longest[5:10])
    assert max(longest[5:10]) <= 32 < min(longest[10:])
    sizes = [sum(len(batch.sample_ids) for batch in stream.batch(step)) for step in (10, 19)]
    assert sizes == [12, 12]
    assert sum(batch.num_tokens for batch in stream.batch(0)) < 0.5 * sum(
        batch.num_tokens for batch in stream.batch(12)
    )


def test_probability_of_masks_moves_over_the_run(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    masking = MaskingSettings(mask_prob=0.4, mask_prob_end=0.1)
    stream = one_corpus(corpora, vocabulary, masking=masking, global_batch_size=30)
    for step in (0, 10, 19):
        batches = stream.batch(step)
        share = sum(batch.num_targets for batch in batches) / sum(
            len(real_text(batch, 0, len(batch.input_ids), vocabulary)) for batch in batches
        )
        assert share == pytest.approx(0.4 - 0.3 * step / 20, abs=0.005)


def test_weights_decide_shares(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    for weights, share in (((3.0, 1.0), 0.75), ((1.0, 1.0), 0.5)):
        settings = settings_of(corpus_weights=weights)
        stream = PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=2)
        owners = [one[0] for step in range(20) for one in samples_of(stream.batch(step))]
        assert owners.count(0) / len(owners) == pytest.approx(share, abs=0.01)
    sizes = [corpus.meta.total("num_bytes") / corpus.num_tokens for corpus in corpora]
    scored = np.bincount([one[0] for batch in stream.held_out() for one in batch.sample_ids.tolist()])
    assert stream.bytes_per_token == pytest.approx(np.average(sizes, weights=scored))


def test_positions_and_documents_of_isolated_blocks(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    stream = one_corpus(corpora, vocabulary, **KINDS["isolated"])
    batch = stream.batch(0)[0]
    assert len(batch.cu_seqlens) > len(batch.block_starts)
    assert set(batch.block_starts.tolist()) <= set(batch.cu_seqlens.tolist())
    for start, stop in itertools.pairwise(batch.cu_seqlens):
        assert batch.position_ids[start:stop].tolist() == list(range(2, 2 + stop - start))
        special = [vocabulary.cls_id, vocabulary.sep_id]
        assert batch.input_ids[[start, stop - 1]].tolist() == special


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_separators_of_pairs_are_those_of_the_family(
    family: str, corpora: list[Corpus], vocabulary: Vocabulary
) -> None:
    stream = one_corpus(corpora, replace(vocabulary, family=family), **KINDS["segments"])
    batch = stream.batch(0)[0]
    separators = [
        int((batch.input_ids[start:stop] == vocabulary.sep_id).sum())
        for start, stop in itertools.pairwise(batch.block_starts)
    ]
    assert set(separators) == {2 if family == "bert" else 3}


def test_the_line_for_the_log(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    stream = PretrainStream(corpora, settings_of(), vocabulary=vocabulary, position_offset=2)
    total = sum(corpus.num_tokens for corpus in corpora)
    assert stream.describe().startswith(f"{total:,} tokens in 2 corpora, {stream.num_training:,} blocks of ")
    pairs = one_corpus(corpora, vocabulary, **KINDS["sentences"])
    assert "tokens without a partner" in pairs.describe()


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"objective": "mlm+nsp"}, "set input_format to segment_pair"),
        ({"objective": "mlm+sop", "input_format": "doc_sentences"}, "set input_format to segment_pair"),
        ({"input_format": "segment_pair"}, "for mlm take full_sentences"),
        ({"isolate_documents": True, "input_format": "doc_sentences"}, "is for full_sentences"),
        ({"curriculum": {"block_lengths": (64,), "block_shares": (0.1,)}}, "below block_length"),
    ],
)
def test_settings_that_do_not_fit_each_other(wrong: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        settings_of(**wrong)


def test_errors_of_use(corpora: list[Corpus], vocabulary: Vocabulary) -> None:
    with pytest.raises(UsageError, match="2 corpora and 3 weights"):
        PretrainStream(corpora, settings_of(corpus_weights=(1, 1, 1)), vocabulary=vocabulary, position_offset=2)
    with pytest.raises(UsageError, match="12 blocks for 13 processes"):
        one_corpus(corpora, vocabulary).batch(0, world_size=13)
    with pytest.raises(DataError, match="1 blocks to train on and 0 held out"):
        PretrainStream([make_corpus([[[[(7, True)] * 5]]])], settings_of(), vocabulary=vocabulary, position_offset=2)
