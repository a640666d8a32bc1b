"""The token governor over DDS: fewer tokens while time is short, but never in fine work."""

import time

import pytest

pytest.importorskip('rclpy')

from support.dds import wait_until
from support.policy_node_rig import PATIENCE_S, running

ALL, FEWEST = 86, 34
"""Tokens of the recipe, and 0.4 of them, the governor's lowest level."""


def sweeping(robot, speed_m_s):
    """Let the end effector go to and fro, a tenth of a metre each way."""
    still = robot.make_pose

    def pose(*_):
        way = time.monotonic() * speed_m_s % 0.2
        return still(x=abs(way - 0.1))

    return pose


def test_tokens_fall_while_inferences_are_late_but_not_in_fine_work(
    compressed, repository, tmp_path
):
    # The end effector goes where this test wants it, not where the policy commands it.
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    profile = tmp_path / 'led.yaml'
    profile.write_text(f'{text}\ntracking: {{position_error: 1 m}}\n', 'utf-8')
    # A period of 5 ms, in which no inference can end.
    with running(
        tmp_path,
        compressed,
        '-p',
        'autostart:=true',
        '-p',
        f'profile:={profile}',
        '-p',
        'token_governor:=true',
        '-p',
        'inference_rate_hz:=200.0',
        '-p',
        'inference_deadline_s:=20.0',
    ) as rig:
        rig.wait_state('READY')
        still = rig.robot.make_pose
        rig.robot.make_pose = sweeping(rig.robot, 0.15)
        rig.goal(max_duration_s=300)
        assert wait_until(lambda: rig.stats and rig.stats[-1].tokens_kept == FEWEST, PATIENCE_S), (
            rig.explain()
        )
        levels = [s.tokens_kept for s in rig.stats if s.tokens_kept <= ALL]
        assert {69, 52} <= set(levels), f'levels on the way: {levels}'
        assert levels.index(69) < levels.index(52) < levels.index(FEWEST)
        rig.robot.make_pose = still
        assert wait_until(lambda: all(s.tokens_kept == ALL for s in rig.stats[-3:]), PATIENCE_S), (
            rig.explain()
        )
        assert rig.state().startswith('RUNNING'), rig.explain()
