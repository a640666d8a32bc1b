"""
Plays the inputs of a recording to the policy node, but none of its commands.

Only TF and the topics that the profile names as inputs are played: a recorded command would move
a robot that subscribes to it. Playing begins once an input has a subscriber: a policy takes
seconds to load, and a bag that is played once could be over by then.
"""

from importlib import import_module
from pathlib import Path
import sys
from threading import Event, Thread
import time
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import RobotProfile
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
        if not self.settings['bag'] or not self._bag.exists():
            raise UserError(
                f'parameter bag: {self.settings["bag"]!r} does not exist; expected a '
                'rosbag2 directory, or a file .mcap or .db3'
            )
        self._topics = input_topics(load_profile(self.settings['profile']))
        self._senders: dict[str, Publisher] = {}
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
            while self._play() and not self._stopping.is_set():
                if not self.settings['loop']:
                    self.finished = True
                    return
        except UserError as error:
            self.failure = error

    def _play(self) -> bool:
        from rosbags.highlevel import AnyReader, AnyReaderError

        first_ns, told_s, played = None, 0.0, 0
        try:
            with AnyReader([self._bag]) as reader:
                connections = [c for c in reader.connections if c.topic.strip('/') in self._topics]
                if not connections:
                    raise UserError(
                        f'{self._bag}: it has none of the topics {", ".join(sorted(self._topics))}'
                    )
                for connection in connections:
                    self._sender(connection)
                if not self._wait_for_listener():
                    return False
                begun_s = time.monotonic()
                for connection, bag_ns, data in reader.messages(connections):
                    first_ns = bag_ns if first_ns is None else first_ns
                    due_s = begun_s + (bag_ns - first_ns) / 1e9 / self.settings['rate']
                    if self._stopping.wait(max(due_s - time.monotonic(), 0.0)):
                        return False
                    self._publish(connection, data)
                    played += 1
                    if self.settings['instruction'] and time.monotonic() - told_s > 1.0:
                        told_s = time.monotonic()
                        self._instruction.publish(String(data=self.settings['instruction']))
        except (AnyReaderError, OSError) as error:
            raise UserError(f'{self._bag}: cannot be read as a bag ({error})') from None
        self.get_logger().info(f'played {played} messages of {len(connections)} topics')
        return True

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
                _message_type(connection.msgtype),
                topic,
                LATCHED_QOS if self._topics[name] else QOS,
            )
        return self._senders[name]

    def _publish(self, connection: Any, data: bytes) -> None:
        sender = self._sender(connection)
        message = deserialize_message(bytes(data), sender.msg_type)
        now = self.get_clock().now().to_msg()
        for part in getattr(message, 'transforms', [message]):
            if hasattr(part, 'header'):
                part.header.stamp = now
        sender.publish(message)


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


def _message_type(name: str) -> type:
    package, _, kind = name.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        raise UserError(
            f'bag: messages of type {name} are not known here; install the package {package}'
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Run the player until SIGINT, SIGTERM or the end of a bag that is not repeated."""
    return run_node('bag_player_node', BagPlayerNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
