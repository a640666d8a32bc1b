import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import (
    ChunkExecutor,
    DelayEstimator,
    ExecutorConfig,
    Mode,
    Offer,
)

SPEC = ActionSpec(('linear.x', 'linear.y', 'linear.z', 'gripper'), ('m/s',) * 3 + ('1',), 0.05, 8)
STEPS = ExecutorConfig(interpolate=False, blend_s=0)
MS = 1_000_000


def chunk(values=0.0, stamp_ms=0, generation=0, spec=SPEC):
    """Columns all alike: a value, or one for each row."""
    rows = np.broadcast_to(np.asarray(values, float).reshape(-1, 1), (spec.horizon, 4))
    return ActionChunk(rows, spec, stamp_ms * MS, generation)


RAMP = np.arange(8.0)


def value(executor, at_ms):
    row = executor.row(at_ms * MS)
    return None if row is None else row[0]


def test_rows_whose_time_has_passed_are_skipped():
    executor = ChunkExecutor(STEPS)
    assert executor.offer(chunk(RAMP, stamp_ms=1000), 1120 * MS) is Offer.ACCEPTED
    assert [value(executor, ms) for ms in (1120, 1149, 1150, 1399)] == [2, 2, 3, 7]


def test_nothing_is_left_after_the_last_row():
    executor = ChunkExecutor(STEPS)
    executor.offer(chunk(RAMP), 0)
    assert value(executor, 399) == 7
    assert value(executor, 400) is None
    assert executor.depth(399 * MS) == 1
    assert executor.depth(400 * MS) == 0


def test_nothing_is_there_before_the_first_chunk():
    assert ChunkExecutor().row(0) is None
    assert ChunkExecutor().depth(0) == 0


def test_a_jump_back_of_the_clock_executes_nothing():
    executor = ChunkExecutor(STEPS)
    executor.offer(chunk(RAMP, stamp_ms=5000), 5000 * MS)
    assert value(executor, 3000) is None


@pytest.mark.parametrize(
    'offered, now_ms, outcome',
    [
        (chunk([0, 0, np.nan, 0, 0, 0, 0, 0], 200), 300, Offer.NON_FINITE),
        (chunk(np.inf, 200), 300, Offer.NON_FINITE),
        (chunk(0, 200, spec=ActionSpec(SPEC.names, SPEC.units, 0.04, 8)), 300, Offer.WRONG_SPEC),
        (chunk(0, 200, generation=-1), 300, Offer.OLD_GENERATION),
        (chunk(0, 200, generation=1), 300, Offer.OLD_GENERATION),
        (chunk(0, 100), 300, Offer.OUT_OF_ORDER),
        (chunk(0, 50), 300, Offer.OUT_OF_ORDER),
        (chunk(0, 400), 300, Offer.FUTURE),
        (chunk(0, 200), 600, Offer.EXPIRED),
        (chunk(0, 200), 599, Offer.ACCEPTED),
    ],
)
def test_unusable_chunks_are_refused_and_counted(offered, now_ms, outcome):
    executor = ChunkExecutor(STEPS)
    executor.offer(chunk(9, stamp_ms=100), 100 * MS)
    assert executor.offer(offered, now_ms * MS) is outcome
    assert executor.counts[outcome] == (2 if outcome is Offer.ACCEPTED else 1)
    if outcome is not Offer.ACCEPTED:
        assert value(executor, 300) == 9


def test_a_spec_given_at_the_start_binds_the_first_chunk():
    other = ActionSpec(SPEC.names, SPEC.units, 0.04, 8)
    assert ChunkExecutor(STEPS, other).offer(chunk(), 0) is Offer.WRONG_SPEC


def test_a_flush_empties_and_makes_what_is_under_way_too_late():
    executor = ChunkExecutor()
    executor.offer(chunk(1), 0)
    executor.flush()
    assert executor.generation == 1
    assert executor.row(0) is None
    assert executor.offer(chunk(1, 10), 20 * MS) is Offer.OLD_GENERATION
    # The clock may have gone back meanwhile.
    assert executor.offer(chunk(1, -500, generation=1), -400 * MS) is Offer.ACCEPTED


def test_interpolation_has_no_corners_and_keeps_the_distance():
    executor = ChunkExecutor(ExecutorConfig(blend_s=0))
    rows = np.array([0, 0, 3, 2, 5, 4, 1, 1.0])
    executor.offer(chunk(rows), 0)
    between = [value(executor, 50 * i) for i in range(1, 8)]
    np.testing.assert_allclose(between, (rows[:-1] + rows[1:]) / 2)
    assert value(executor, 125) == pytest.approx(0.125 * 0 + 0.75 * 3 + 0.125 * 2)
    assert [value(executor, ms) for ms in (0, 25, 375, 399)] == pytest.approx([0, 0, 1, 1])
    seen = np.array([value(executor, ms + 0.5) for ms in range(400)])
    assert seen.sum() * 1e-3 == pytest.approx(rows.sum() * 0.05, rel=1e-3)
    slope = np.diff(seen)
    # Slopes change by second differences of the rows over a row's 50 ms, never at once.
    assert np.abs(np.diff(slope)).max() <= 1.01 * np.abs(np.diff(rows, 2)).max() / 50**2


def test_a_gripper_switches_and_is_neither_interpolated_nor_blended():
    executor = ChunkExecutor(ExecutorConfig(blend_s=0.1))
    executor.offer(chunk([0, 0, 0, 0, 1, 1, 1, 1]), 0)
    assert [executor.row(ms * MS)[3] for ms in (180, 199, 200, 220)] == [0, 0, 1, 1]
    executor.offer(chunk(0, 210), 230 * MS)
    assert executor.row(240 * MS)[3] == 0


def test_a_new_chunk_takes_over_gradually():
    executor = ChunkExecutor(ExecutorConfig(blend_s=0.1))
    executor.offer(chunk(0), 0)
    executor.offer(chunk(1, 100), 200 * MS)
    seen = [value(executor, ms) for ms in (200, 225, 250, 275, 300, 350)]
    np.testing.assert_allclose(seen, [0, 0.15625, 0.5, 0.84375, 1, 1])


def test_after_a_gap_there_is_nothing_to_blend_with():
    executor = ChunkExecutor(ExecutorConfig(blend_s=0.1))
    executor.offer(chunk(0), 0)
    executor.offer(chunk(1, 900), 1000 * MS)
    assert value(executor, 1000) == 1


def test_the_temporal_ensemble_weighs_the_oldest_most():
    config = ExecutorConfig(Mode.TEMPORAL_ENSEMBLE, blend_s=0, ensemble_decay=0.5)
    executor = ChunkExecutor(config)
    for index, stamp_ms in enumerate((0, 50, 100)):
        executor.offer(chunk(float(index), stamp_ms), stamp_ms * MS)
    weights = np.exp([0, -0.5, -1.0])
    assert value(executor, 110) == pytest.approx(weights @ [0, 1, 2] / weights.sum())
    # The first chunk has passed: it takes no part any more.
    assert value(executor, 405) == pytest.approx((1 + 2 * weights[1]) / (1 + weights[1]))


def test_the_adaptive_ensemble_weighs_by_agreement_with_the_newest():
    config = ExecutorConfig(Mode.ADAPTIVE_ENSEMBLE, blend_s=0, ensemble_alpha=1.0)
    executor = ChunkExecutor(config)
    executor.offer(chunk(-1.0, 0), 0)
    executor.offer(chunk(1.0, 50), 50 * MS)
    executor.offer(chunk(2.0, 100), 100 * MS)
    weights = np.exp([-1, 1, 1])
    assert value(executor, 110) == pytest.approx(weights @ [-1, 1, 2] / weights.sum())


def test_an_ensemble_keeps_no_more_chunks_than_configured():
    executor = ChunkExecutor(
        ExecutorConfig('temporal_ensemble', blend_s=0, ensemble_chunks=2, ensemble_decay=0.0)
    )
    for index, stamp_ms in enumerate((0, 50, 100)):
        executor.offer(chunk(float(index), stamp_ms), stamp_ms * MS)
    assert value(executor, 110) == pytest.approx(1.5)


@pytest.mark.parametrize(
    'wrong',
    [
        {'blend_s': -1},
        {'blend_s': float('nan')},
        {'ensemble_chunks': 0},
        {'ensemble_alpha': float('inf')},
    ],
)
def test_a_wrong_configuration_names_the_field(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExecutorConfig(**wrong)


def test_the_delay_is_a_percentile_of_a_window_without_the_warm_up():
    delay = DelayEstimator(window=4, percentile=50, warm_up=2)
    for seconds in (30, 9):
        delay.add(seconds)
    assert delay.delay_s is None
    for seconds in (0.1, 0.2, 0.3, 0.3, 0.3, 0.3):
        delay.add(seconds)
    assert delay.delay_s == pytest.approx(0.3)


def test_the_executor_measures_delays_of_accepted_chunks_only():
    executor = ChunkExecutor()
    for index in range(5):
        executor.offer(chunk(0, 100 * index), (100 * index + 80) * MS)
        executor.offer(chunk(np.nan, 100 * index + 1), (100 * index + 399) * MS)
    assert executor.delay.delay_s == pytest.approx(0.08)
