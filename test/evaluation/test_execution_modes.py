"""Moving while inferring against standing while inferring."""

import pytest

from sqap_vla_ros.evaluation.execution_modes import MODES, protocols, summarise_modes, text
from sqap_vla_ros.evaluation.rollout import count_pauses


def test_pauses_count_only_after_the_first_chunk():
    assert count_pauses([False, False]) == (0, 0)
    assert count_pauses([False, False, True, True]) == (0, 0)
    assert count_pauses([False, True, False, False, True, False]) == (2, 3)


def test_all_modes_get_the_same_delay_and_only_the_first_two_move_meanwhile():
    made = protocols(0.2)
    assert list(made) == list(MODES)
    assert {p.delay_s for p in made.values()} == {0.2}
    assert [p.sequential for p in made.values()] == [False, False, True, True]
    assert [p.executor.mode.continues for p in made.values()] == [False, True, False, False]
    assert [p.limited for p in made.values()] == [True, True, True, False]


def episode(seed, succeeded, jerk=2.0, pauses=0):
    return {
        'task': 'press_red',
        'seed': seed,
        'succeeded': succeeded,
        'duration_s': 2.0,
        'jerk_m_s3': jerk,
        'pauses': pauses,
        'paused_s': 0.2 * pauses,
    }


def test_jerk_is_compared_in_scenes_that_all_solved_and_success_in_pairs():
    report = summarise_modes(
        {
            'asynchronous': [episode(1, True), episode(2, True, 50.0)],
            'real_time_chunking': [episode(1, True, 1.0), episode(2, True)],
            'sequential': [episode(1, True, 4.0, 3), episode(2, False)],
            'plain': [episode(1, True, 20.0, 3), episode(2, True, 20.0, 3)],
        }
    )
    assert report['solved_by_all'] == 1
    against = report['against']['asynchronous']
    assert against['sequential']['jerk_ratio'] == pytest.approx(4.0)
    assert against['plain']['jerk_ratio'] == pytest.approx(100.0)
    assert against['sequential']['success']['only_this'] == 1
    ratio = report['against']['real_time_chunking']['sequential']['jerk_ratio']
    assert ratio == pytest.approx(16.0)
    assert report['sequential']['episodes_with_pauses'] == 1
    assert report['sequential']['paused_share'] == pytest.approx(0.15)
    assert '4.00 times lower' in text(report)
