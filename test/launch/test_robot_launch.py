"""The launch files for a real arm, Gazebo and replay bring their nodes up, beside stand-ins."""

import os

import pytest

launch_pytest = pytest.importorskip(
    'launch_pytest',
    reason='launch_pytest is not installed: it comes with ROS 2 (ros-<distro>-launch-pytest)',
)

from geometry_msgs.msg import TwistStamped
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.ros.common.qos import LATCHED

from support.dds import client_node, wait_until
from support.launch_prefix import make_prefix, PROGRAMS
from support.robot import Robot

START_LIMIT_S = 240.0
UNTESTED = 'simulated: true', 'simulated: false'


@pytest.fixture(scope='module')
def client():
    with client_node(int(os.environ.get('ROS_DOMAIN_ID', 0))) as client:
        yield client


@pytest.fixture(scope='module')
def untested_profile(repository, tmp_path_factory):
    """Give the simulated arm's profile as one of a real arm that it has never run on."""
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    path = tmp_path_factory.mktemp('profile') / 'untested.yaml'
    path.write_text(text.replace(*UNTESTED), 'utf-8')
    return path


def include(repository, name, **arguments):
    return IncludeLaunchDescription(
        str(repository / 'launch' / f'{name}.launch.py'), launch_arguments=arguments.items()
    )


def state_of(client, node):
    service = client.create_client(GetState, f'{node}/get_state')
    try:
        if not service.wait_for_service(1.0):
            return State.PRIMARY_STATE_UNKNOWN
        future = service.call_async(GetState.Request())
        wait_until(future.done, 10)
        return future.result().current_state.id if future.done() else 0
    finally:
        client.destroy_client(service)


def wait_active(client, node='policy_node'):
    assert wait_until(
        lambda: state_of(client, node) == State.PRIMARY_STATE_ACTIVE, START_LIMIT_S, 0.5
    )


@launch_pytest.fixture
def real_arm(repository, random_policy, untested_profile):
    return LaunchDescription(
        [
            include(
                repository,
                'real_arm',
                profile=str(untested_profile),
                policy=str(random_policy),
                recipe='none',
                start_on_instruction='true',
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=real_arm)
def test_a_real_arm_is_not_commanded_unless_it_is_asked_for(client):
    robot = Robot(client)
    states = client.listen(String, 'policy_node/state', LATCHED)
    dry = client.listen(TwistStamped, 'policy_node/dry_run/twist_command', 100)
    try:
        wait_active(client)

        def runs():
            robot.instruction.publish(String(data='open the drawer'))
            return any(state.data.startswith('RUNNING') for state in states) and len(dry) > 20

        assert wait_until(runs, START_LIMIT_S, 0.5), states[-1:]
        assert not robot.twists
        publishers = client.get_publishers_info_by_topic('/twist_command')
        assert not publishers
    finally:
        robot.close()


@launch_pytest.fixture
def refused(repository, random_policy, untested_profile):
    return LaunchDescription(
        [
            include(
                repository,
                'real_arm',
                profile=str(untested_profile),
                policy=str(random_policy),
                recipe='none',
                command='true',
                autostart='false',
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=refused)
def test_an_untested_profile_does_not_command_without_acknowledgement(client):
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.id = 1  # configure
    answer = client.call(ChangeState, 'policy_node/change_state', request, START_LIMIT_S)
    assert not answer.success
    assert state_of(client, 'policy_node') == State.PRIMARY_STATE_UNCONFIGURED


@launch_pytest.fixture
def gazebo(repository, random_policy, tmp_path_factory):
    prefix = make_prefix(tmp_path_factory.mktemp('prefix'))
    text = (repository / 'config/gazebo/profile.yaml').read_text('utf-8')
    profile = prefix / 'profile.yaml'
    # tf2_ros is not everywhere where launch_pytest is.
    profile.write_text(text.replace('{source: tf}', '{source: topic, topic: end_effector_pose}'))
    path = f'{prefix}{os.pathsep}{os.environ.get("AMENT_PREFIX_PATH", "")}'
    return LaunchDescription(
        [
            SetEnvironmentVariable('AMENT_PREFIX_PATH', path),
            include(
                repository,
                'gazebo',
                profile=str(profile),
                policy=str(random_policy),
                recipe='none',
                namespace='left',
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=gazebo)
def test_the_graph_of_gazebo_comes_up_with_stand_ins(client):
    nodes = {
        program
        for programs in PROGRAMS.values()
        for program in programs
        if program not in ('create', 'spawner')
    } | {'policy_node'}
    assert wait_until(lambda: nodes <= set(client.get_node_names()), START_LIMIT_S, 0.5), (
        client.get_node_names()
    )
    wait_active(client, '/left/policy_node')
    topics = dict(client.get_topic_names_and_types())
    trajectory = topics['/left/arm_controller/joint_trajectory']
    assert trajectory == ['trajectory_msgs/msg/JointTrajectory']
    known = client.get_node_names_and_namespaces()
    assert ('robot_state_publisher', '/left') in known and ('parameter_bridge', '/left') in known
    answer = client.call(
        GetParameters,
        '/left/robot_state_publisher/get_parameters',
        GetParameters.Request(names=['robot_description']),
        START_LIMIT_S,
    )
    assert '<namespace>/left</namespace>' in answer.values[0].string_value


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Record joint states for a second."""
    writer_module = pytest.importorskip('rosbags.rosbag2')
    from rosbags.typesys import get_typestore, Stores

    path = tmp_path_factory.mktemp('recording') / 'bag'
    with writer_module.Writer(path, version=9) as writer:
        connection = writer.add_connection(
            '/joint_states',
            'sensor_msgs/msg/JointState',
            typestore=get_typestore(Stores.ROS2_JAZZY),
        )
        for index in range(10):
            state = JointState(name=['r_close'], position=[float(index)])
            writer.write(connection, index * 100_000_000 + 1, serialize_message(state))
    return path


@launch_pytest.fixture
def replay(repository, random_policy, bag):
    return LaunchDescription(
        [
            include(repository, 'replay', policy=str(random_policy), recipe='none', bag=str(bag)),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=replay)
def test_replay_plays_to_a_policy_that_commands_nothing(client):
    states = client.listen(JointState, 'joint_states')
    wait_active(client)
    assert wait_until(lambda: len(states) >= 3, START_LIMIT_S)
    assert client.call(Trigger, 'policy_node/hold', Trigger.Request()).message
    assert not client.get_publishers_info_by_topic('/twist_command')


@pytest.mark.timeout(START_LIMIT_S)
def test_a_bag_that_cannot_be_played_ends_the_launch(repository, random_policy, tmp_path):
    service = LaunchService()
    service.include_launch_description(
        LaunchDescription(
            [
                include(
                    repository,
                    'replay',
                    policy=str(random_policy),
                    recipe='none',
                    autostart='false',
                    bag=str(tmp_path / 'nowhere'),
                )
            ]
        )
    )
    assert service.run() == 0
