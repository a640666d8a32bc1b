"""Limits and rates of parameters and profile must fit together."""

from dataclasses import replace

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile, Tracking
from sqap_vla_ros.ros.policy_node.controller_setup import largest_gap_s, motion_limits
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

ARM = RobotProfile('arm', 'base', 'tool', (), ())


def arm(*outputs):
    return replace(ARM, outputs=outputs)


@pytest.mark.parametrize('kind', ['joint_trajectory', 'joint_trajectory_chunk'])
def test_commands_that_come_after_a_trajectory_has_begun_to_brake_are_refused(kind):
    profile = arm(Output(kind, 'jtc/joint_trajectory', horizon_s=0.1))
    settings = replace(PolicyNodeSettings(), command_rate_hz=20.0)
    with pytest.raises(ValueError, match=r'command_rate_hz is 20.*jtc/joint_traj.*at least 30 Hz'):
        largest_gap_s(settings, profile)
    assert largest_gap_s(replace(settings, command_rate_hz=30.0), profile) == pytest.approx(0.05)


def test_a_gap_is_half_a_horizon_or_as_much_as_the_limiter_allows_for():
    settings = PolicyNodeSettings()
    assert largest_gap_s(settings, arm()) == pytest.approx(0.1)
    two = arm(Output('joint_trajectory', 'a', horizon_s=0.2), Output('joint_state', 'b'))
    assert largest_gap_s(settings, two) == pytest.approx(0.1)
    short = arm(Output('joint_trajectory', 'a', horizon_s=0.08))
    assert largest_gap_s(settings, short) == pytest.approx(0.04)
    slow = replace(settings, command_rate_hz=10.0)
    assert largest_gap_s(slow, arm()) == pytest.approx(0.15)


def test_limits_of_the_tracking_error_are_those_of_the_profile():
    limits = motion_limits(PolicyNodeSettings(), replace(ARM, tracking=Tracking(0.2, 0.4)))
    assert (limits.tracking_error_m, limits.tracking_error_rad) == (0.2, 0.4)
    assert limits.workspace_low_m == PolicyNodeSettings().workspace_low_m
    joints = motion_limits(PolicyNodeSettings(), load_profile('so101'))
    assert joints.workspace_low_m is None and joints.workspace_high_m is None
