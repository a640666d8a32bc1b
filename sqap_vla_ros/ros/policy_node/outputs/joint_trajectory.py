"""Short trajectories for ros2_control's joint_trajectory_controller."""

from builtin_interfaces.msg import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.ros.policy_node.outputs.joint_reference import JointReference


class JointTrajectoryOutput:
    """
    Publishes trajectory_msgs/JointTrajectory, rad and rad/s (m, m/s), that end at standstill.

    Each goes on with the commanded velocity for half of its horizon and brakes to zero in the
    other half, and replaces the one before. So the arm stands one horizon after the last message,
    whatever becomes of the node. The controller drops one whose end has passed: it is stamped with
    the time of publishing.
    """

    def __init__(self, node, output, profile) -> None:
        self._names = output.joints
        self._horizon_s = output.horizon_s
        self._frame_id = profile.base_frame
        self._reference = JointReference()
        self._publisher = node.create_publisher(JointTrajectory, output.topic, 1)

    def publish(self, command: JointCommand, stamp) -> None:
        """Send one command; nothing while the joints' positions are unknown."""
        positions = self._reference.advance(command)
        if positions is None:
            return
        message = JointTrajectory(joint_names=list(self._names))
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        start = [positions[name] for name in self._names]
        velocity = [command.velocities[name] for name in self._names]
        half_s = self._horizon_s / 2
        if not command.still:
            message.points.append(_point(half_s, start, velocity, half_s, velocity))
        # At constant deceleration to zero half of the way at full speed is covered.
        message.points.append(
            _point(self._horizon_s, start, velocity, 1.5 * half_s, [0.0] * len(start))
        )
        self._publisher.publish(message)


def _point(time_s, start, velocity, way_s, at):
    nanoseconds = round(time_s * 1e9)
    return JointTrajectoryPoint(
        positions=[q + v * way_s for q, v in zip(start, velocity)],
        velocities=list(at),
        time_from_start=Duration(
            sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000
        ),
    )
