"""Poses from TF, handled like messages; tf2_ros is needed only if a profile asks for TF."""

from collections.abc import Callable

from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time

from sqap_vla_ros.ros.common.poses import import_tf2_ros, transform_to_pose

RATE_HZ = 50.0
SHOWN = 200
"""Characters of an error of tf2 that are shown."""


class TransformPoller:
    """
    Looks transforms up at RATE_HZ and passes each new one on as a PoseStamped.

    Args:
        node: Node that listens; callbacks run in the thread of its executor.
        base_frame: Frame that the poses are given in.
        frames: Name to the frame whose pose is looked up.
        receive: Called with the name and each new pose.

    Raises:
        UserError: tf2_ros is not installed.
    """

    def __init__(
        self,
        node: Node,
        base_frame: str,
        frames: dict[str, str],
        receive: Callable[[str, PoseStamped], None],
    ) -> None:
        tf2_ros = import_tf2_ros()
        self._node, self._base_frame, self._frames = node, base_frame, frames
        self._receive, self._error = receive, tf2_ros.TransformException
        self.errors: dict[str, str] = {}
        """Name to why its last look-up failed; none where it succeeded."""
        self._stamps: dict[str, tuple[int, int]] = {}
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._timer = node.create_timer(
            1 / RATE_HZ, self.poll, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_timer(self._timer)
        self._listener.unregister()

    def poll(self) -> None:
        """Look up every frame once."""
        for name, frame in self._frames.items():
            try:
                transform = self._buffer.lookup_transform(self._base_frame, frame, Time())
            except self._error as error:
                # At the start this is normal: it is told when it lasts.
                self.errors[name] = (
                    f'no transform from {self._base_frame!r} to {frame!r} '
                    f'({" ".join(str(error).split())[:SHOWN]}); is robot_state_publisher running, '
                    'and are the frames of the profile right?'
                )
                continue
            self.errors.pop(name, None)
            stamp = transform.header.stamp
            if self._stamps.get(name) == (stamp.sec, stamp.nanosec):
                continue
            self._stamps[name] = stamp.sec, stamp.nanosec
            self._receive(name, transform_to_pose(transform))
