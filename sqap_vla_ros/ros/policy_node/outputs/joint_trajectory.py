"""Output adapter for joint_trajectory_controller of ros2_control: short trajectories."""

from builtin_interfaces.msg import Duration, Time
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from scipy.interpolate import CubicHermiteSpline
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile
from sqap_vla_ros.ros.common.messages import header, stamp_to_ns

PAST_SHARE = 0.25
"""How far a trajectory begins before its command, as a share of the horizon: more than the
clocks of node and controller differ."""
SHORTEST_S = 1e-6
"""Points that are closer than this are one."""


class JointTrajectoryOutput:
    """
    Publishes trajectory_msgs/JointTrajectory, rad and rad/s (m, m/s), that end at standstill.

    Each trajectory goes over to the commanded velocity in the first half of its horizon, brakes
    to zero in the other half, and replaces the one before. The arm therefore stands still one
    horizon after the last message, even if the node dies. It follows the commands a quarter of
    the horizon later: a steady change of velocity lags behind a sudden one, and to catch up it
    would have to be faster than commanded. The controller drops a trajectory whose end has
    passed, so each is stamped.

    To the first point of a trajectory the controller goes from its last command, which it dates
    one control cycle too early: at each message the command would advance by two cycles in one.
    Therefore a trajectory begins a little before its command, on the way of the one before, so
    that the controller is between its points from the start. Not so at a start, when the way of
    the controller is not known: until it has reached the first half of a first trajectory, the
    first point is there.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._names = output.joints
        self._horizon_s = output.horizon_s
        self._frame_id = profile.base_frame
        self._publisher = node.create_publisher(JointTrajectory, output.topic, 1)
        velocities = {joint.name: joint.velocity or 0.0 for joint in profile.joints}
        self._reach = output.horizon_s * np.array([velocities[name] for name in output.joints])
        """How far the controller can be from where the commands lead, rad or m."""
        self._last: tuple[int, CubicHermiteSpline] | None = None
        """Stamp of the last command, ns, and the path over the time since then, seconds."""
        self._joined_ns = 0
        """Time from which the controller is on that path."""

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
        begun = self._begun(position, stamp_ns)
        if begun is None:
            begun = np.tile(position, (2, 1)), np.zeros((2, len(position)))
            self._joined_ns = stamp_ns + round(self._horizon_s / 2 * 1e9)
        times_s, positions, velocities = _points(
            begun, position, velocity, self._horizon_s, command.still
        )
        path = CubicHermiteSpline(times_s, positions, velocities)
        self._last = stamp_ns, path
        begin_s = max(times_s[0], (self._joined_ns - stamp_ns) * 1e-9)
        zero_s = min(begin_s, 0.0)
        zero_ns = stamp_ns + round(zero_s * 1e9)
        if zero_ns <= 0:  # simulated time has just begun, and no time is negative
            return
        later = times_s > begin_s + SHORTEST_S
        points = zip(
            [begin_s, *times_s[later]],
            [path(begin_s), *positions[later]],
            [path(begin_s, 1), *velocities[later]],
        )
        self._publisher.publish(
            JointTrajectory(
                header=header(zero_ns, self._frame_id),
                joint_names=list(self._names),
                points=[
                    JointTrajectoryPoint(
                        positions=place.tolist(),
                        velocities=speed.tolist(),
                        time_from_start=Duration(nanosec=round((time_s - zero_s) * 1e9)),
                    )
                    for time_s, place, speed in points
                ],
            )
        )

    def _begun(
        self, position: NDArray[np.float64], stamp_ns: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """
        Return positions and velocities, each [2, joints], a little before a command and at it.

        None if they are not known: at the first command, and where it does not continue the
        commands before.
        """
        if self._last is None:
            return None
        last_ns, path = self._last
        since_s = (stamp_ns - last_ns) * 1e-9
        # At its end the arm stands still, and the controller holds the position.
        times_s = np.minimum(
            since_s + np.array([-PAST_SHARE * self._horizon_s, 0.0]), self._horizon_s
        )
        if since_s <= 0 or (np.abs(path(times_s[1]) - position) > self._reach).any():
            return None
        return path(times_s), path(times_s, 1)


def _points(
    begun: tuple[NDArray[np.float64], NDArray[np.float64]],
    position: NDArray[np.float64],
    velocity: NDArray[np.float64],
    horizon_s: float,
    still: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Compute the points of a trajectory.

    Args:
        begun: Positions and velocities, each [2, joints], a little before the command and at it.
        position: [joints], where the commands lead now, rad or m.
        velocity: [joints], commanded now, rad/s or m/s.
        horizon_s: Time after which the arm stands still.
        still: Whether the command is standstill.

    Returns:
        Times [points], seconds from the command; positions and velocities, each [points, joints].
    """
    half_s = horizon_s / 2
    times_s = [-PAST_SHARE * horizon_s, 0.0]
    positions, velocities = list(begun[0]), list(begun[1])
    if not still:
        times_s.append(half_s)
        positions.append(position + velocity * half_s / 2)
        velocities.append(velocity)
    # Constant deceleration to zero covers half of the distance of constant speed.
    times_s.append(horizon_s)
    positions.append(position + velocity * half_s)
    velocities.append(np.zeros_like(velocity))
    return np.array(times_s), np.array(positions), np.array(velocities)
