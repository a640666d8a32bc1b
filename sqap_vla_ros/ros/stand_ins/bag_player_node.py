"""
Plays the inputs of a recording to the policy node, but none of its commands.

Only TF and the topics that the profile names as inputs are played: a recorded command would move
a robot that subscribes to it. Playing begins once an input has a subscriber: a policy takes
seconds to load, and a bag that is played once could be over by then.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
import sys
from threading import Event, Thread
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, String

from sqap_vla_ros.errors import describe, one_line, shown, UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.recording.bag_files import (
    BagFiles,
    check_chunks,
    CONVERT,
    describe_names,
    describe_topics,
    find_bag,
    told_as_bag,
    Topic,
)
from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.setting import Setting

SETTINGS = (
    Setting('bag', '', 'rosbag2 directory, or a file .mcap or .db3', read_only=True),
    Setting('profile', 'sim_sawyer', 'robot profile; its input topics are played', read_only=True),
    Setting('rate', 1.0, 'times the speed of the recording', 0.01, 100.0, read_only=True),
    Setting('loop', True, 'begin again at the end', read_only=True),
    Setting(
        'instruction',
        '',
        'published once a second; empty: only what is in the bag',
        read_only=True,
    ),
)
LATCHED_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
QOS = QoSProfile(depth=5)
DISCOVERY_S = 0.5
PAUSE_S = 10.0
"""A longer pause of the recording is shortened to this."""
REPORT_S = 5.0
"""Shortest time between two lines about messages that cannot be read."""
KINDS = {
    **{
        f'sensor_msgs/msg/{k.__name__}': k
        for k in (CameraInfo, CompressedImage, Image, JointState)
    },
    'geometry_msgs/msg/PoseStamped': PoseStamped,
    'std_msgs/msg/Bool': Bool,
}
"""Types of the topics of a robot, without that of TF, which is not always installed."""
TF_MESSAGE = 'tf2_msgs/msg/TFMessage'
# These also have other subscribers: RViz, and a policy node that is not configured yet.
HEARD_BY_OTHERS = ('tf', 'tf_static', 'task_success')


class BagPlayerNode(Node):
    """Publishes the messages of a bag from a thread, stamped with the current time."""

    def __init__(self) -> None:
        super().__init__('bag_player_node')
        self.settings = {
            s.name: self.declare_parameter(s.name, s.default, s.descriptor()).value
            for s in SETTINGS
        }
        self.failure: UserError | None = None
        self.finished = False
        """`failure` and `finished` end the process, see `run_node`."""
        self._bag = Path(self.settings['bag']).expanduser()
        if not self.settings['bag']:
            raise UserError(
                'parameter bag is empty; expected a rosbag2 directory, or a file .mcap or .db3'
            )
        self._whole = _playable(find_bag(self._bag))
        profile = load_profile(self.settings['profile'])
        self._topics = input_topics(profile)
        self._needed = {
            name.strip('/')
            for name in (profile.joint_states_topic, *(camera.topic for camera in profile.cameras))
        }
        self._senders: dict[str, Publisher] = {}
        self._unreadable: Counter[str] = Counter()
        """Topic to the number of its messages that cannot be read."""
        self._reported_s = -float('inf')
        self._stopping = Event()
        self._instruction = self.create_publisher(String, 'instruction', 1)
        self._thread = Thread(target=self._run, name='player', daemon=True)
        self._thread.start()

    def expected_names(self) -> list[str]:
        """List the topics that it may publish; see `argument_problems`."""
        return list(self._topics)

    def close(self) -> None:
        """Stop playing."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.get_logger().info(f'looking at {one_line(str(self._bag))}')
            for file in self._whole.files:
                if self._whole.storage == 'mcap':
                    check_chunks(file)
            while self._play() and not self._stopping.is_set():
                if not self.settings['loop']:
                    self.finished = True
                    return
        except UserError as error:
            self.failure = error

    def _play(self) -> bool:
        from rosbags.highlevel import AnyReader

        played = 0
        with told_as_bag(self._bag), AnyReader([self._bag]) as reader:
            connections = [c for c in reader.connections if c.topic.strip('/') in self._topics]
            if not connections:
                topics = [Topic(c.topic, c.msgtype, c.msgcount) for c in reader.connections]
                raise UserError(
                    f'bag {self._bag}: it has none of the topics that the profile names: '
                    f'{", ".join(sorted(self._topics))}; it has {describe_topics(topics)}; remap '
                    'when recording, or name its topics in a profile'
                )
            if not self._senders:
                self._tell_missing([c.topic for c in reader.connections])
            for connection in connections:
                self._sender(connection)
            if not self._wait_for_listener():
                return False
            for connection, data in self._in_time(reader.messages(connections)):
                played += self._publish(connection, data)
            if self._stopping.is_set():
                return False
        unreadable = self._unreadable.total()
        self.get_logger().info(
            f'played {played} messages of {len(connections)} topics'
            + (f', {unreadable} could not be read' if unreadable else '')
        )
        return True

    def _tell_missing(self, topics: list[str]) -> None:
        found = {topic.strip('/') for topic in topics}
        if missing := sorted(self._needed - found):
            others = describe_names(found - {*self._topics})
            self.get_logger().warning(
                one_line(
                    f'not in the bag: {", ".join(missing)}; a policy that needs it will wait. '
                    f'Other topics of the bag: {others}'
                )
            )

    def _in_time(self, messages: Iterable[tuple[Any, int, bytes]]) -> Iterator[tuple[Any, bytes]]:
        """Yield messages when they are due, and publish the instruction in between."""
        due_s, told_s, last_ns = time.monotonic(), 0.0, None
        for connection, bag_ns, data in messages:
            pause_s = 0.0 if last_ns is None else (bag_ns - last_ns) / 1e9
            if pause_s > PAUSE_S:
                self.get_logger().info(
                    f'a pause of {pause_s:.0f} s in the bag is shortened to {PAUSE_S:g} s'
                )
            due_s += min(max(pause_s, 0.0), PAUSE_S) / self.settings['rate']
            last_ns = bag_ns
            while (wait_s := due_s - time.monotonic()) > 0:
                if self._stopping.wait(min(wait_s, 1.0)):
                    return
            if self._stopping.is_set():
                return
            yield connection, data
            if self.settings['instruction'] and time.monotonic() - told_s > 1.0:
                told_s = time.monotonic()
                self._instruction.publish(String(data=self.settings['instruction']))

    def _wait_for_listener(self) -> bool:
        """Wait until an input has a subscriber; False if the player is stopped before."""
        inputs = [
            sender for name, sender in self._senders.items() if name not in HEARD_BY_OTHERS
        ] or list(self._senders.values())
        if not any(sender.get_subscription_count() for sender in inputs):
            self.get_logger().info('waiting until somebody listens')
        while not any(sender.get_subscription_count() for sender in inputs):
            if self._stopping.wait(0.1):
                return False
        # The listener may find this node later than this node finds it, and lose what comes first.
        return not self._stopping.wait(DISCOVERY_S)

    def _sender(self, connection: Any) -> Publisher:
        name = connection.topic.strip('/')
        if name not in self._senders:
            topic = f'/{name}' if name in ('tf', 'tf_static') else name
            self._senders[name] = self.create_publisher(
                _message_type(name, connection.msgtype),
                topic,
                LATCHED_QOS if self._topics[name] else QOS,
            )
        return self._senders[name]

    def _publish(self, connection: Any, data: bytes) -> bool:
        """Publish a message; False: it cannot be read, and is passed over."""
        sender = self._sender(connection)
        try:
            message = deserialize_message(bytes(data), sender.msg_type)
            now = self.get_clock().now().to_msg()
            for part in getattr(message, 'transforms', [message]):
                if hasattr(part, 'header'):
                    part.header.stamp = now
            sender.publish(message)
        except Exception as error:  # whatever a damaged message is made of
            self._unreadable[connection.topic] += 1
            if time.monotonic() - self._reported_s > REPORT_S:
                self._reported_s = time.monotonic()
                self.get_logger().warning(
                    one_line(
                        f'{connection.topic}: a message cannot be read and is passed over '
                        f'({self._unreadable.total()} so far): {describe(error)}'
                    )
                )
            return False
        return True


def _playable(bag: BagFiles) -> BagFiles:
    if bag.packed:
        raise UserError(
            f'bag {bag.files[0].parent}: its files or messages are compressed '
            f'({shown(bag.packed)}); {CONVERT}'
        )
    return bag


def input_topics(profile: RobotProfile) -> dict[str, bool]:
    """Map each topic that a robot publishes, without leading slash, to whether it is latched."""
    topics = {
        'tf': False,
        'tf_static': True,
        'task_success': False,
        profile.joint_states_topic: False,
        profile.pose_topic: False,
    }
    for camera in profile.cameras:
        topics[camera.topic] = False
        if camera.info_topic:
            topics[camera.info_topic] = False
        if camera.extrinsics == 'topic':
            topics[camera.extrinsics_topic] = True
    return {name.strip('/'): latched for name, latched in topics.items()}


def _message_type(topic: str, name: str) -> type:
    if name == TF_MESSAGE:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            raise UserError(
                f'bag: {topic} has messages of type {name}; install the package tf2_msgs'
            ) from None
        return TFMessage
    if name not in KINDS:
        raise UserError(
            f'bag: {topic} has messages of type {shown(name)}, which no input of a robot has; '
            'remap the topic when recording, or name another one in the profile'
        )
    return KINDS[name]


def main(arguments: list[str] | None = None) -> int:
    """Run the player until SIGINT, SIGTERM or the end of a bag that is not repeated."""
    return run_node('bag_player_node', BagPlayerNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
