"""Poses from TF, fed in like messages; tf2_ros is needed only where a profile asks for it."""

from rclpy.clock import Clock, ClockType
from rclpy.time import Time

from sqap_vla_ros.ros.common.poses import import_tf2_ros, transform_to_pose

RATE_HZ = 50.0


class TransformPoller:
    """
    Looks transforms up at a fixed rate and hands each new one on as a PoseStamped.

    frames: name to frame; the poses are those of the frames in `base_frame`. Callbacks run in the
    executor's thread. Raises UserError without tf2_ros.
    """

    def __init__(self, node, base_frame: str, frames: dict[str, str], receive) -> None:
        """`receive(name, message)` is called for every new pose."""
        tf2_ros = import_tf2_ros()
        self._node, self._base_frame, self._frames = node, base_frame, frames
        self._receive, self._error = receive, tf2_ros.TransformException
        self._stamps = {}
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
        """Look every frame up once."""
        for name, frame in self._frames.items():
            try:
                transform = self._buffer.lookup_transform(self._base_frame, frame, Time())
            except self._error as error:
                self._node.get_logger().warning(
                    f'TF: no transform from {self._base_frame!r} to {frame!r} ({error}); is '
                    'robot_state_publisher running, and are the frames of the profile right?',
                    throttle_duration_sec=5.0,
                )
                continue
            stamp = transform.header.stamp
            if self._stamps.get(name) == (stamp.sec, stamp.nanosec):
                continue
            self._stamps[name] = stamp.sec, stamp.nanosec
            self._receive(name, transform_to_pose(transform))
