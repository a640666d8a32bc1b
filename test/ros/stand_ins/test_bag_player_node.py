"""The player: what the robot said, stamped now, and none of what it was told."""

import sqlite3
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosbags')

from geometry_msgs.msg import TwistStamped
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from sqap_vla_ros.ros.common.messages import header, stamp_to_ns

from support.dds import client_node, domain, start_node, wait_until

MODULE = 'sqap_vla_ros.ros.stand_ins.bag_player_node'


@pytest.fixture
def bag(tmp_path):
    """Record two joint states and a command, ten years ago."""
    store = get_typestore(Stores.ROS2_JAZZY)
    path = tmp_path / 'bag'
    begun_ns = 1_400_000_000_000_000_000
    with Writer(path, version=9) as writer:
        joints = writer.add_connection(
            '/joint_states', 'sensor_msgs/msg/JointState', typestore=store
        )
        twists = writer.add_connection(
            '/twist_command', 'geometry_msgs/msg/TwistStamped', typestore=store
        )
        for index in range(2):
            stamp_ns = begun_ns + index * 200_000_000
            state = JointState(
                header=header(stamp_ns, 'base'), name=['a'], position=[float(index)]
            )
            writer.write(joints, stamp_ns, serialize_message(state))
            writer.write(twists, stamp_ns, serialize_message(TwistStamped()))
    return path


def test_inputs_are_played_with_new_stamps_and_commands_are_not(bag, tmp_path):
    domain_id = domain()
    process = start_node(
        MODULE, tmp_path, domain_id, '-p', f'bag:={bag}', '-p', 'instruction:=push the red button'
    )
    try:
        with client_node(domain_id) as client:
            states = client.listen(JointState, 'joint_states')
            told = client.listen(String, 'instruction')
            twists = client.listen(TwistStamped, 'twist_command')
            assert wait_until(lambda: len(states) >= 6 and told, 60), process.last_line()
            assert {state.position[0] for state in states} == {0.0, 1.0}
            age_s = time.time() - stamp_to_ns(states[-1].header.stamp) / 1e9
            assert abs(age_s) < 5 and not twists
    finally:
        assert process.stop() == 0


def test_a_bag_that_is_not_repeated_waits_for_a_listener_and_ends(bag, tmp_path):
    domain_id = domain()
    process = start_node(MODULE, tmp_path, domain_id, '-p', f'bag:={bag}', '-p', 'loop:=false')
    try:
        assert wait_until(lambda: 'waiting' in process.log.read_text(), 60), process.last_line()
        with client_node(domain_id) as client:
            states = client.listen(JointState, 'joint_states')
            assert process.wait(60) == 0
            assert states and states[-1].position[0] == 1.0
            assert 'played 2 messages' in process.log.read_text()
    finally:
        process.stop()


def test_a_bag_that_cannot_be_played_ends_with_one_line(tmp_path):
    process = start_node(MODULE, tmp_path, domain(), '-p', f'bag:={tmp_path}')
    assert process.wait(120) == 2
    assert 'expected the folder of a bag' in process.last_line()


def test_damaged_messages_and_long_pauses_are_passed_over(bag, tmp_path):
    file = next(bag.glob('*.db3'))
    with sqlite3.connect(file) as database:
        database.execute("update messages set data = x'00010000ffffffffffffff' where id = 1")
        database.execute(
            'update messages set timestamp = timestamp + 9000000000 * 1000 where id > 2'
        )
    domain_id = domain()
    process = start_node(
        MODULE, tmp_path, domain_id, '-p', f'bag:={bag}', '-p', 'loop:=false', '-p', 'rate:=100.0'
    )
    try:
        with client_node(domain_id) as client:
            states = client.listen(JointState, 'joint_states')
            assert process.wait(60) == 0, process.last_line()
            assert [state.position[0] for state in states] == [1.0]
            text = process.log.read_text()
            assert '/joint_states: a message cannot be read and is passed over' in text
            assert 'not in the bag: camera/image_raw' in text and 'is shortened to' in text
            assert 'played 1 messages of 1 topics, 1 could not be read' in text
    finally:
        process.stop()
