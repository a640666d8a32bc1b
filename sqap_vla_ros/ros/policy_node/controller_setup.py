"""Make the controller of a profile and the parameters of the node."""

from dataclasses import replace
import time

from sqap_vla_ros.control.chunk_executor import ExecutorConfig
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig, POSE
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MotionLimits
from sqap_vla_ros.profiles.action_mapping import ActionMapping, joint_limits
from sqap_vla_ros.profiles.robot_profile import RobotProfile, TRAJECTORIES
from sqap_vla_ros.ros.policy_node.input_topics import InputTopics
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

GAP_PERIODS = 1.5
"""A command that comes this many periods after the last one is late."""


def make_controller(
    mapping: ActionMapping,
    topics: InputTopics,
    settings: PolicyNodeSettings,
    profile: RobotProfile,
    executor: ExecutorConfig,
) -> Controller:
    """
    Make the controller.

    Args:
        mapping: Columns of the policy on this robot.
        topics: Of the inputs.
        settings: Parameters of the node.
        profile: Robot profile.
        executor: How chunks are combined.

    Raises:
        ValueError: Limits contradict each other; the message names them.
    """
    watched = [POSE if name == topics.pose else name for name in topics.required]
    config = ControllerConfig(
        command_period_s=1 / settings.command_rate_hz,
        gap_s=largest_gap_s(settings, profile),
        executor=executor,
        input_timeouts_s=dict.fromkeys(watched, settings.observation_timeout_s),
        hold_on_frozen_camera=settings.hold_on_frozen_camera,
        watch_tracking=not settings.dry_run,
    )
    limits = motion_limits(settings, profile)
    return Controller(mapping.spec, limits, config, time.monotonic_ns, joint_limits(profile))


def motion_limits(settings: PolicyNodeSettings, profile: RobotProfile) -> MotionLimits:
    """Join the limits that are parameters with those that only the profile has."""
    tracking = profile.tracking
    limits = replace(
        settings.motion_limits(),
        tracking_error_m=tracking.position_error_m,
        tracking_error_rad=tracking.orientation_error_rad,
        tracking_delay_s=tracking.delay_s,
    )
    if profile.joint_space:
        limits = replace(limits, workspace_low_m=None, workspace_high_m=None)
    return limits


def largest_gap_s(settings: PolicyNodeSettings, profile: RobotProfile) -> float:
    """
    Compute after which time between two commands the arm is no longer where they would lead it.

    Raises:
        ValueError: Commands come so seldom that a trajectory ends before the next one.
    """
    period_s = 1 / settings.command_rate_hz
    gap_s = max(MAX_PERIOD_S, GAP_PERIODS * period_s)
    for output in profile.outputs:
        if output.kind not in TRAJECTORIES:
            continue
        if output.horizon_s / 2 < GAP_PERIODS * period_s:
            raise ValueError(
                f'command_rate_hz is {settings.command_rate_hz:g}: a command comes every '
                f'{period_s:.3f} s, and the trajectories of {output.topic} begin to brake after '
                f'{output.horizon_s / 2:.3f} s; expected at least '
                f'{2 * GAP_PERIODS / output.horizon_s:.0f} Hz, or a longer horizon in the profile'
            )
        gap_s = min(gap_s, output.horizon_s / 2)
    return gap_s
