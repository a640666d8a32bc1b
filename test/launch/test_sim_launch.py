"""The launch file brings both nodes up and ends them with a hold, as `ros2 launch` would do it."""

from pathlib import Path
import threading
import time

import pytest

launch_pytest = pytest.importorskip(
    'launch_pytest',
    reason='launch_pytest is not installed: it comes with ROS 2 (ros-<distro>-launch-pytest)',
)

from geometry_msgs.msg import TwistStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import String

# Starting the simulator and loading torch, on a slow machine that does other things.
START_LIMIT_S = 120.0
NAMESPACE = 'launch_test'


class Observer:
    """A node of the test's own, spun in a thread; lists are appended to in that thread."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('observer', namespace=NAMESPACE, context=self.context)
        self.twists: list[TwistStamped] = []
        self.images: list[Image] = []
        self.exit_statuses: list[int] = []
        """Of the launched processes; filled by the launch fixture."""
        self.node.create_subscription(TwistStamped, 'twist_command', self.twists.append, 10)
        self.node.create_subscription(Image, 'camera/image_raw', self.images.append, 1)
        self.instruction = self.node.create_publisher(String, 'instruction', 1)
        self.lifecycle = self.node.create_client(GetState, 'policy_node/get_state')
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self):
        """End the thread, then the node."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def policy_state(self) -> int:
        """Return the policy node's lifecycle state, UNKNOWN while it does not answer."""
        future = self.lifecycle.call_async(GetState.Request())
        limit_s = time.monotonic() + 10
        while not future.done() and time.monotonic() < limit_s:
            time.sleep(0.05)
        return future.result().current_state.id if future.done() else State.PRIMARY_STATE_UNKNOWN


def wait_for(condition, what: str):
    """Wait until the condition holds; fails naming what did not happen."""
    limit_s = time.monotonic() + START_LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, f'{what} within {START_LIMIT_S:g} s'
        time.sleep(0.1)


@pytest.fixture(scope='module')
def observer():
    """Watch the topics from before the start of the nodes until after their end."""
    made = Observer()
    yield made
    made.close()


@launch_pytest.fixture(scope='module')
def simulation(observer, random_policy, repository):
    """Launch the float policy, which saves compressing it."""
    launch_file = Path(repository, 'launch', 'sim.launch.py')
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                str(launch_file),
                launch_arguments={
                    'namespace': NAMESPACE,
                    'policy': str(random_policy),
                    'recipe': '',
                    'real_time_factor': '0.5',
                }.items(),
            ),
            RegisterEventHandler(
                OnProcessExit(
                    on_exit=lambda event, _: observer.exit_statuses.append(event.returncode)
                )
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(5 * START_LIMIT_S)
@pytest.mark.launch(fixture=simulation)
def test_instruction_moves_the_arm_after_autostart(observer):
    wait_for(lambda: observer.images, 'the simulated arm publishes images')
    wait_for(observer.lifecycle.service_is_ready, 'the policy node exists')
    wait_for(
        lambda: observer.policy_state() == State.PRIMARY_STATE_ACTIVE, 'the policy node is active'
    )
    time.sleep(0.5)
    assert not [t for t in observer.twists if t.twist.linear.x or t.twist.linear.y], (
        'commanded motion before any instruction'
    )

    def moves():
        observer.instruction.publish(String(data='push the red button'))
        return any(t.twist.linear.x or t.twist.linear.y for t in observer.twists[-50:])

    wait_for(moves, 'an instruction on the topic leads to motion')


@pytest.mark.timeout(5 * START_LIMIT_S)
@pytest.mark.launch(fixture=simulation, shutdown=True)
def test_last_command_is_a_hold_and_both_nodes_end_cleanly(observer):
    linear = observer.twists[-1].twist.linear
    assert (linear.x, linear.y, linear.z) == (0.0, 0.0, 0.0)
    assert observer.exit_statuses == [0, 0]
