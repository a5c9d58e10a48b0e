"""NM3 and NM4: spikes are skipped, then rolled back, with bounds."""

import random

from unmask.train.guard import SpikeGuard
from unmask.train.settings import GuardSettings


def calm(guard: SpikeGuard, first: int, count: int) -> None:
    noise = random.Random(0)
    for step in range(first, first + count):
        assert guard.judge(step, 3 + noise.gauss(0, 0.05)) == "accept"


def test_one_spike_is_skipped_and_the_next_step_runs() -> None:
    guard = SpikeGuard(GuardSettings())
    calm(guard, 1, 50)
    assert guard.judge(51, 300.0) == "skip"
    assert guard.num_skipped == 1
    assert max(guard.losses) < 4, "the spike does not enter the window"
    calm(guard, 52, 10)


def test_the_early_steps_are_never_skipped() -> None:
    guard = SpikeGuard(GuardSettings())
    assert {guard.judge(step, 10.0 if step % 2 else 500.0) for step in range(1, 32)} == {"accept"}


def test_a_falling_or_noisy_loss_is_no_spike() -> None:
    guard = SpikeGuard(GuardSettings())
    noise = random.Random(1)
    assert {guard.judge(step, 10 / step**0.1 + noise.gauss(0, 0.1)) for step in range(1, 2000)} == {"accept"}


def test_close_spikes_roll_back_and_far_ones_do_not() -> None:
    guard = SpikeGuard(GuardSettings(max_spikes=3, max_rollbacks=1))
    calm(guard, 1, 50)
    assert [guard.judge(step, 99.0) for step in (60, 120, 180)] == ["skip", "skip", "skip"], "only two within 100"
    assert guard.judge(190, 99.0) == "roll back"
    guard.forgive()
    calm(guard, 191, 20)
    assert [guard.judge(step, 99.0) for step in (220, 221, 222)] == ["skip", "skip", "give up"]


def test_the_state_survives_and_judges_alike() -> None:
    one, other = SpikeGuard(GuardSettings()), SpikeGuard(GuardSettings())
    calm(one, 1, 200)
    one.judge(201, 88.0)
    other.restore(one.state())
    assert other.state() == one.state()
    assert len(other.losses) == 128
    assert [other.judge(step, 77.0) for step in (202, 203)] == [one.judge(step, 77.0) for step in (202, 203)]


def test_other_text_is_judged_by_itself() -> None:
    guard = SpikeGuard(GuardSettings())
    calm(guard, 1, 200)
    guard.renew()
    assert {guard.judge(step, 5.0) for step in range(201, 260)} == {"accept"}
    assert guard.judge(260, 50.0) == "skip"


def test_zero_turns_it_off() -> None:
    guard = SpikeGuard(GuardSettings(spike_sigmas=0))
    calm(guard, 1, 50)
    assert guard.judge(51, 1e9) == "accept"
