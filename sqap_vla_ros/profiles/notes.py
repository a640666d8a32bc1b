"""What in a profile is no mistake but needs care."""

from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile

SERVO_TOPIC = 'delta_twist_cmds'
"""Last word of the topic on which MoveIt Servo takes twists."""
SERVO_UNITS = 'speed_units'
"""Value of Servo's parameter command_in_type for m/s and rad/s."""


def notes_on(profile: RobotProfile) -> list[str]:
    """List what needs care: one line each."""
    notes = [
        f'gripper: max_effort of {output.topic} is 0: a Franka Hand then grasps without force and '
        'an effort controller does not move; only a position controller ignores it'
        for output in profile.gripper.outputs
        if output.kind == 'gripper_command' and output.max_effort == 0
    ]
    notes += [
        f'cameras: optical_frame of {camera.name!r} is {camera.optical_frame!r}, which looks like '
        'the frame of the housing; that of the lens has z forward and usually ends in '
        '_optical_frame'
        for camera in profile.cameras
        if camera.extrinsics != 'none' and camera.optical_frame.endswith('_link')
    ]
    topics = [camera.topic for camera in profile.cameras]
    notes += [
        f'cameras: {camera.name!r} has the same topic as another one, {camera.topic}'
        for index, camera in enumerate(profile.cameras)
        if camera.topic in topics[:index]
    ]
    return notes + [
        f'outputs: {output.topic} looks like that of MoveIt Servo: its command_in_type must be '
        f'{SERVO_UNITS}, and from ROS Iron on each start of Servo needs `ros2 service call '
        f'/{servo_node(output)}/switch_command_type moveit_msgs/srv/ServoCommandType '
        '"{command_type: 1}"`'
        for output in profile.outputs
        if servo_node(output)
    ]


def servo_node(output: Output) -> str:
    """Return the name of the MoveIt Servo node that an output commands; '' for other outputs."""
    name, _, topic = output.topic.rpartition('/')
    return name.lstrip('/') if output.kind == 'twist_stamped' and topic == SERVO_TOPIC else ''
