"""Block lengths and batch sizes over a run, against a loop over the steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unmask.data.curriculum import Curriculum, CurriculumSettings, Point

shares_lists = st.lists(st.floats(0.01, 0.3), max_size=3)


@given(
    shares=shares_lists,
    max_steps=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    warmup=st.one_of(st.none(), st.tuples(st.integers(1, 40), st.floats(0.01, 1))),
    data=st.data(),
)
def test_steps_are_those_of_the_loop(
    shares: list[float], max_steps: int, batch_size: int, warmup: tuple[int, float] | None, data: st.DataObject
) -> None:
    lengths = tuple(16 * (number + 1) for number in range(len(shares)))
    scales = data.draw(st.lists(st.floats(1, 9), min_size=len(shares) + 1, max_size=len(shares) + 1))
    start, ratio = warmup or (None, 0.0)
    settings = CurriculumSettings(
        block_lengths=lengths, block_shares=tuple(shares), start_batch_size=start, batch_warmup_ratio=ratio
    )
    curriculum = Curriculum(settings, block_length=512, max_steps=max_steps, batch_size=batch_size, scales=scales)
    taken = [0] * len(scales)
    wanted = [0.0] * len(scales)
    growing = math.ceil(ratio * max_steps)
    for step in range(max_steps + 5):
        assert curriculum.samples(step) == taken
        phase = sum(step >= round(sum(shares[: number + 1]) * max_steps) for number in range(len(shares)))
        size: float = batch_size
        if start is not None and step < growing:
            size = start + (batch_size - start) * step / growing
        point = curriculum.at(step)
        assert (point.phase, point.block_length, point.first) == (phase, (*lengths, 512)[phase], taken[phase])
        assert point.batch_size == pytest.approx(size)
        assert point.count >= 1
        assert curriculum.is_turn(step) == (step > 0 and phase > curriculum.at(step - 1).phase)
        taken[phase] += point.count
        wanted[phase] += size * scales[phase]
        assert abs(taken[phase] - wanted[phase]) <= 1 + 1e-6


def test_a_run_without_end_costs_no_memory() -> None:
    settings = CurriculumSettings(
        block_lengths=(16,), block_shares=(0.5,), start_batch_size=10, batch_warmup_ratio=0.25
    )
    curriculum = Curriculum(settings, block_length=32, max_steps=10**12, batch_size=30, scales=[2.0, 1.0])
    assert curriculum.at(0).count == 20
    assert curriculum.at(125 * 10**9).count == 40
    assert curriculum.at(10**12 - 1) == Point(1, 32, (5 * 10**11 - 1) * 30, 30, 30.0)


def test_a_plain_run_has_the_same_batch_in_each_step() -> None:
    curriculum = Curriculum(CurriculumSettings(), block_length=64, max_steps=10, batch_size=7, scales=[1.0])
    assert [(curriculum.at(step).first, curriculum.at(step).count) for step in (0, 1, 9, 10, 1000)] == [
        (0, 7), (7, 7), (63, 7), (70, 7), (7000, 7),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"block_lengths": (32,)}, "one number for each phase"),
        ({"block_lengths": (32, 64), "block_shares": (0.5, 0.5)}, "leave some steps"),
        ({"start_batch_size": 8}, "given together"),
        ({"batch_warmup_ratio": 0.1}, "given together"),
        ({"block_lengths": (4,), "block_shares": (0.5,)}, "greater than or equal to 8"),
    ],
)
def test_settings_are_checked(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        CurriculumSettings(**wrong)
