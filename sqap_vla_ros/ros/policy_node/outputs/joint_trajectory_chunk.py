"""Output adapter for joint_trajectory_controller with `positions_upsampling`: positions only."""

from builtin_interfaces.msg import Duration, Time
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from scipy.interpolate import CubicSpline
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile
from sqap_vla_ros.ros.common.messages import header, stamp_to_ns

POINTS = 10
"""Points in a horizon."""
PAST = 3
"""Points before the time of the command; the first of them is not a place of the arm."""
_GRID = np.arange(1 - PAST, POINTS + 1)
_OF_POINTS = CubicSpline(_GRID, np.eye(len(_GRID)), bc_type='clamped')(_GRID[1], 1)
"""[points]: velocity at the second point of a spline that stands still at both ends, by points."""
_OF_VELOCITY = CubicSpline(
    _GRID, np.zeros(len(_GRID)), bc_type=((1, np.array(1.0)), (1, np.array(0.0)))
)(_GRID[1], 1)
"""The same, by the velocity at the first point."""


class JointTrajectoryChunkOutput:
    """
    Publishes trajectory_msgs/JointTrajectory of positions only, rad (m), that end at standstill.

    The controller lays a spline with continuous accelerations through the points of a message. It
    stands still at the first and the last point, so that a stream of short chunks would brake at
    every message. Therefore the first points lie in the past, where nothing executes them: two
    where the last chunk led, and one before them, placed such that the spline has the speed of
    the last chunk there. From the last chunk it goes over to the commanded velocity in the first
    half of the horizon, in the other half it brakes to standstill, and the next message replaces
    it. The arm follows the commands a quarter of the horizon later, and stands still one horizon
    after the last message, even if the node dies.

    All points are timed, so that `policy_frequency` of the controller does not matter.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._names = output.joints
        self._horizon_s = output.horizon_s
        self._frame_id = profile.base_frame
        self._publisher = node.create_publisher(JointTrajectory, output.topic, 1)
        velocities = {joint.name: joint.velocity or 0.0 for joint in profile.joints}
        self._reach = output.horizon_s * np.array([velocities[name] for name in output.joints])
        """How far the controller can be from where the commands lead, rad or m."""
        self._last: tuple[int, CubicSpline] | None = None
        """Stamp of the last chunk, ns, and its path over the time since then."""

    def publish(self, command: JointCommand, stamp: Time) -> None:
        """Publish one command; nothing if it has no positions."""
        if not command.positions:
            self._last = None
            return
        position, velocity = (
            np.array([values[name] for name in self._names])
            for values in (command.positions, command.velocities)
        )
        stamp_ns = stamp_to_ns(stamp)
        last, since_s = None, 0.0
        if self._last is not None:
            since_s = (stamp_ns - self._last[0]) * 1e-9
            end = self._last[1](min(since_s, self._horizon_s))
            if since_s > 0 and (np.abs(end - position) <= self._reach).all():
                last = self._last[1]
        times_s, points = chunk(position, velocity, self._horizon_s, last, since_s)
        self._last = stamp_ns, spline(times_s, points)
        begin_s = times_s[0] - (times_s[1] - times_s[0])
        begin_ns = stamp_ns + round(begin_s * 1e9)
        if begin_ns <= 0:  # simulated time has just begun, and no time is negative
            return
        self._publisher.publish(
            JointTrajectory(
                header=header(begin_ns, self._frame_id),
                joint_names=list(self._names),
                points=[
                    JointTrajectoryPoint(
                        positions=point.tolist(),
                        time_from_start=Duration(nanosec=round((time_s - begin_s) * 1e9)),
                    )
                    for time_s, point in zip(times_s, points)
                ],
            )
        )


def spline(times_s: NDArray[np.float64], points: NDArray[np.float64]) -> CubicSpline:
    """
    Interpolate as joint_trajectory_controller does with `positions_upsampling`.

    Args:
        times_s: [points], growing.
        points: [points, joints].

    Returns:
        Positions [joints] over the time; at the first and the last point they stand still.
    """
    return CubicSpline(times_s, points, bc_type='clamped')


def chunk(
    position: NDArray[np.float64],
    velocity: NDArray[np.float64],
    horizon_s: float,
    last: CubicSpline | None,
    since_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Compute the points of a chunk.

    Args:
        position: [joints], where the commands lead now, rad or m.
        velocity: [joints], commanded now, rad/s or m/s.
        horizon_s: Time until the end of the chunk, seconds.
        last: Path of the chunk before; None: the arm stands still at `position`.
        since_s: Time since that chunk, seconds.

    Returns:
        Times [PAST + 1 + POINTS], seconds from now, and positions [PAST + 1 + POINTS, joints].
    """
    step_s, half_s = horizon_s / POINTS, horizon_s / 2
    past_s = step_s * np.arange(1 - PAST, 0)
    if last is None:
        begun, start = np.tile(position, (len(past_s), 1)), position
        first_velocity = start_velocity = np.zeros_like(velocity)
    else:
        # At its end the arm stands still, and the controller holds the position.
        at_s = np.minimum(since_s + np.append(past_s, 0.0), horizon_s)
        begun, start = last(at_s[:-1]), last(at_s[-1])
        first_velocity, start_velocity = last(at_s[0], 1), last(at_s[-1], 1)
    # A steady change of velocity over half of the horizon lags behind a sudden one by this way.
    # To catch up with it would need a higher velocity than the one that is commanded.
    middle = position + velocity * half_s / 2
    future_s = step_s * np.arange(POINTS + 1)
    share = np.minimum(future_s / half_s, 1.0)[:, None]
    braking = np.maximum(future_s / half_s - 1.0, 0.0)[:, None]
    points = np.concatenate(
        [
            begun,
            (1 + 2 * share) * (1 - share) ** 2 * start
            + share * (1 - share) ** 2 * half_s * start_velocity
            + share**2 * (3 - 2 * share) * middle
            + share**2 * (share - 1) * half_s * velocity
            + (braking - braking**2 / 2) * half_s * velocity,
        ]
    )
    times_s = np.concatenate([past_s, future_s])
    # The spline stands still at its first point. Where that point must be, so that it has
    # `first_velocity` at the second one, follows from its equation there:
    # 0 + 4 first_velocity + next_velocity = 3 (points[1] - before) / step_s
    next_velocity = _OF_POINTS @ points / step_s + _OF_VELOCITY * first_velocity
    before = points[1] - step_s * (4 * first_velocity + next_velocity) / 3
    return (
        np.concatenate([[times_s[0] - step_s], times_s]),
        np.concatenate([before[None], points]),
    )
