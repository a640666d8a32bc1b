"""Output adapter for joint_trajectory_controller of ros2_control: short trajectories."""

from collections.abc import Sequence

from builtin_interfaces.msg import Duration, Time
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile


class JointTrajectoryOutput:
    """
    Publishes trajectory_msgs/JointTrajectory, rad and rad/s (m, m/s), that end at standstill.

    Each trajectory goes over to the commanded velocity in the first half of its horizon, brakes
    to zero in the other half, and replaces the one before. The arm therefore stands still one
    horizon after the last message, even if the node dies. It follows the commands a quarter of
    the horizon later: a steady change of velocity lags behind a sudden one, and to catch up it
    would have to be faster than commanded. The controller drops a trajectory whose end has
    passed, so each is stamped with the time of its command.

    The first point lies in the future, so that the controller goes on from its last command, even
    if it has heard nothing for a while. It dates that command one control cycle too early: at
    each message its command advances by two cycles in one. Points in the past would avoid that,
    as those of `JointTrajectoryChunkOutput` do, but then the command steps after such a while.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._names = output.joints
        self._horizon_s = output.horizon_s
        self._frame_id = profile.base_frame
        self._publisher = node.create_publisher(JointTrajectory, output.topic, 1)

    def publish(self, command: JointCommand, stamp: Time) -> None:
        """Publish one command; nothing if it has no positions."""
        positions = command.positions
        if not positions:
            return
        message = JointTrajectory(joint_names=list(self._names))
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        start = [positions[name] for name in self._names]
        velocity = [command.velocities[name] for name in self._names]
        half_s = self._horizon_s / 2
        if not command.still:
            message.points.append(_point(half_s, start, velocity, half_s / 2, velocity))
        # Constant deceleration to zero covers half of the distance of constant speed.
        message.points.append(_point(self._horizon_s, start, velocity, half_s, [0.0] * len(start)))
        self._publisher.publish(message)


def _point(
    time_s: float,
    start: Sequence[float],
    velocity: Sequence[float],
    travel_s: float,
    end_velocity: Sequence[float],
) -> JointTrajectoryPoint:
    """Point at `time_s`, after travelling from `start` at `velocity` for `travel_s`."""
    nanoseconds = round(time_s * 1e9)
    return JointTrajectoryPoint(
        positions=[q + v * travel_s for q, v in zip(start, velocity)],
        velocities=list(end_velocity),
        time_from_start=Duration(
            sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000
        ),
    )
