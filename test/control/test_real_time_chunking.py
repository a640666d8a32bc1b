import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import ChunkExecutor, ExecutorConfig, Mode, Offer
from sqap_vla_ros.control.real_time_chunking import (
    continuation,
    execution_mode,
    frozen_rows,
    guidance_weights,
    previous_rows,
)
from sqap_vla_ros.errors import UserError


@pytest.mark.parametrize('delay_s, rows', [(0, 0), (0.01, 1), (0.1, 2), (0.101, 3)])
def test_every_row_begun_during_inference_is_frozen(delay_s, rows):
    assert frozen_rows(delay_s, 0.05) == rows


def test_weights_are_one_then_fall_then_zero():
    weights = guidance_weights(horizon=16, frozen=3, executed=5)
    assert (weights[:3] == 1).all()
    assert (np.diff(weights[2:12]) < 0).all()
    assert (weights[11:] == 0).all()
    # Row 5: c = (16 - 5 - 5) / (16 - 5 - 3 + 1) = 2/3.
    assert weights[5] == pytest.approx(2 / 3 * (np.exp(2 / 3) - 1) / (np.e - 1))


@pytest.mark.parametrize('frozen, executed', [(4, 3), (5, 12), (-1, 3)])
def test_too_slow_an_inference_is_refused(frozen, executed):
    with pytest.raises(ValueError, match='do not fit'):
        guidance_weights(16, frozen, executed)


def test_previous_rows_are_shifted_by_what_has_passed():
    spec = ActionSpec(('linear.x',), ('m/s',), 0.05, 4)
    chunk = ActionChunk(np.arange(4.0)[:, None], spec, 0)
    np.testing.assert_array_equal(previous_rows(chunk, 100_000_000)[:, 0], [2, 3, 3, 3])


def test_a_chunk_is_continued_from_the_row_that_is_due_now():
    chunk = ActionChunk(
        np.arange(16, dtype=np.float32)[:, None],
        ActionSpec(('linear.x',), ('m/s',), 0.05, 16),
        10**9,
    )
    follow = continuation(chunk, 10**9 + 200_000_000, delay_s=0.15, period_s=0.2)
    rows, weights = follow.values, follow.weights
    assert rows[:, 0].tolist() == [*range(4, 16), 15, 15, 15, 15]
    assert (weights[:3] == 1).all() and weights[3] < 1 and (weights[12:] == 0).all()


@pytest.mark.parametrize('stamp_s, delay_s', [(1.2, None), (0.9, 0.1), (1.9, 0.1), (1.2, 0.45)])
def test_nothing_is_continued_without_a_delay_a_chunk_that_lasts_or_time(stamp_s, delay_s):
    chunk = ActionChunk(
        np.zeros((16, 1), np.float32), ActionSpec(('linear.x',), ('m/s',), 0.05, 16), 10**9
    )
    assert continuation(chunk, round(stamp_s * 1e9), delay_s, 0.2) is None
    assert continuation(None, 10**9, 0.1, 0.2) is None


def test_execution_modes_are_those_that_the_node_has_always_had():
    assert [mode.value for mode in Mode] == [
        'sequential',
        'temporal_ensemble',
        'adaptive_ensemble',
        'real_time_chunking',
    ]
    for mode in Mode:
        assert execution_mode(mode.value, policy_continues=True) is mode
        assert mode.continues == (mode.value == 'real_time_chunking')


def test_a_mode_that_is_not_known_or_that_the_policy_cannot_do_is_refused():
    with pytest.raises(UserError, match="execution_mode is 'telepathy', expected one of seq"):
        execution_mode('telepathy', policy_continues=True)
    with pytest.raises(UserError, match='diffusion or flow head; use one of sequential'):
        execution_mode('real_time_chunking', policy_continues=False)
    assert execution_mode('sequential', policy_continues=False) is Mode.SEQUENTIAL


def test_the_executor_treats_real_time_chunking_as_sequential():
    spec = ActionSpec(('linear.x',), ('m/s',), 0.05, 8)
    rng = np.random.default_rng(0)
    chunks = [
        ActionChunk(rng.normal(size=(8, 1)), spec, 100_000_000 * index) for index in range(5)
    ]
    rows = {}
    for mode in (Mode.SEQUENTIAL, Mode.REAL_TIME_CHUNKING):
        executor = ChunkExecutor(ExecutorConfig(mode))
        rows[mode] = []
        for chunk in chunks:
            now_ns = chunk.stamp_ns + 50_000_000
            assert executor.offer(chunk, now_ns) is Offer.ACCEPTED
            rows[mode] += [executor.row(now_ns + 20_000_000 * tick) for tick in range(5)]
    np.testing.assert_array_equal(*rows.values())
