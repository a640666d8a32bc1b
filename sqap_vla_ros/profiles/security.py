"""The SROS2 policy of a robot profile: which process may send, hear, serve and ask what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from xml.etree import ElementTree

from sqap_vla_ros.errors import one_line, UserError
from sqap_vla_ros.profiles.names import dry_run_topic, topic_name
from sqap_vla_ros.profiles.notes import SERVO_TOPIC
from sqap_vla_ros.profiles.robot_profile import RobotProfile, TRAJECTORIES

NODE = 'policy_node'
POLICY_VERSION = '0.2.0'
"""Version of the format, `policy.xsd` of SROS2."""
STOPS = ('hold', 'resume', 'estop', 'reset_estop')
PARAMETER_SERVICES = (
    'describe_parameters',
    'get_parameter_types',
    'get_parameters',
    'list_parameters',
    'set_parameters',
    'set_parameters_atomically',
    'get_type_description',
)
LIFECYCLE_SERVICES = (
    'change_state',
    'get_available_states',
    'get_available_transitions',
    'get_state',
    'get_transition_graph',
)
REPORTS = (
    'action_chunk',
    'commanded_path',
    'inference_stats',
    'overlay',
    'state',
    'token_selection',
    'transition_event',
)
INSTRUCTIONS = ('instruction', 'task_success')
GOALS = 'execute_instruction'
EVERY_NODE = ('/parameter_events', '/rosout')
"""Topics that every node publishes."""
BROADCASTS = ('/tf', '/tf_static')
CLI_NODES = '/_ros2cli_*'
"""Nodes of the program `ros2`; * stands for anything, as in all expressions of SROS2."""
DRIVERS = ('controller_manager', 'joint_state_broadcaster', 'robot_state_publisher')
"""Nodes of most robots with ros2_control, beside those that the topics of a profile name."""

QUALIFIERS = {
    'publish': 'topic',
    'subscribe': 'topic',
    'reply': 'service',
    'request': 'service',
    'execute': 'action',
    'call': 'action',
}
"""Field of `Access` to what its names are; both are words of the format."""


@dataclass
class Access:
    """What a process may do, by the resolved names of topics, services and actions."""

    publish: set[str] = field(default_factory=set)
    subscribe: set[str] = field(default_factory=set)
    reply: set[str] = field(default_factory=set)
    request: set[str] = field(default_factory=set)
    execute: set[str] = field(default_factory=set)
    call: set[str] = field(default_factory=set)


def resolve(name: str, namespace: str, node: str = NODE) -> str:
    """Resolve a name of ROS (relative, absolute, or beginning with ~) in a namespace like '/a'."""
    if name.startswith('/'):
        return name
    if name.startswith('~/'):
        name = f'{node}/{name[2:]}'
    return f'{namespace.rstrip("/")}/{name}'


def node_access(profile: RobotProfile, namespace: str = '/') -> Access:
    """
    List what the policy node uses on the robot of a profile, dry run included.

    Args:
        profile: Robot profile.
        namespace: Namespace of the node, beginning with a slash.

    Returns:
        Resolved names.
    """

    def named(names: Iterable[str]) -> set[str]:
        return {resolve(name, namespace) for name in names}

    commands, actions = _commands(profile)
    seen = set(profile.input_topics)
    if _uses_tf(profile):
        seen |= set(BROADCASTS)
    return Access(
        publish=named(
            [
                *EVERY_NODE,
                '/diagnostics',
                *(f'~/{name}' for name in REPORTS),
                *commands,
                *map(dry_run_topic, commands + actions),
            ]
        ),
        subscribe=named(['/clock', *INSTRUCTIONS, *seen]),
        reply=named(
            f'~/{name}' for name in (*STOPS, 'save', *PARAMETER_SERVICES, *LIFECYCLE_SERVICES)
        ),
        request=named(f'{name}/get_parameters' for name in _questioned(profile)),
        execute=named([GOALS]),
        call=named(actions),
    )


def security_policy(
    profile: RobotProfile,
    namespace: str = '',
    robot_nodes: Sequence[str] = (),
    camera_nodes: Sequence[str] = (),
) -> str:
    """
    Write the SROS2 policy of a policy node and of those it works with.

    It has the enclaves `policy_node`, `operator`, `robot` and `camera`, each in the namespace. If
    a node of the robot is a camera as well, their enclaves are one: `robot`.

    Args:
        profile: Robot profile.
        namespace: Namespace of the policy node, with or without its leading slash.
        robot_nodes: Nodes of driver and controllers; empty: what the profile lets one guess.
        camera_nodes: Nodes of the cameras; empty: the first words of their topics.

    Returns:
        XML, as `policy.xsd` of SROS2 describes it.

    Raises:
        UserError: A name is not one of ROS.
    """
    namespace = _checked(namespace.strip('/'), 'namespace')
    node = node_access(profile, namespace)
    robots = _nodes(robot_nodes or _guessed_robot_nodes(profile), namespace)
    cameras = _nodes(camera_nodes or _guessed_camera_nodes(profile), namespace)
    enclaves = {
        NODE: node,
        'operator': _operator(node, namespace),
        'robot': _robot(profile, node, namespace, robots),
        'camera': _camera(profile, namespace, cameras),
    }
    if robots & cameras:
        camera = enclaves.pop('camera')
        for part in fields(Access):
            getattr(enclaves['robot'], part.name).update(getattr(camera, part.name))
    top = ElementTree.Element('policy', version=POLICY_VERSION)
    top.append(
        ElementTree.Comment(
            f' SROS2 policy of {one_line(profile.robot).replace("--", "- -")}, made by sqap_vla '
            'profile security; see doc/security.md. '
        )
    )
    parent = ElementTree.SubElement(top, 'enclaves')
    for name, access in enclaves.items():
        path = resolve(name, namespace)
        enclave = ElementTree.SubElement(parent, 'enclave', path=path)
        profiles = ElementTree.SubElement(enclave, 'profiles')
        element = ElementTree.SubElement(profiles, 'profile', ns=namespace, node=name)
        _add(element, access)
    ElementTree.indent(top)
    return f'{ElementTree.tostring(top, encoding="unicode")}\n'


def _add(element: ElementTree.Element, access: Access) -> None:
    for qualifier, kind in QUALIFIERS.items():
        names = sorted(getattr(access, qualifier))
        if names:
            several = ElementTree.SubElement(element, f'{kind}s', {qualifier: 'ALLOW'})
            for name in names:
                ElementTree.SubElement(several, kind).text = name


def _operator(node: Access, namespace: str) -> Access:
    """May see everything, instruct, stop and set up the node; may not command the arm itself."""
    own = resolve('operator', namespace)
    return Access(
        publish={*EVERY_NODE, *(resolve(name, namespace) for name in INSTRUCTIONS)},
        subscribe={*node.publish, *node.subscribe},
        reply={
            f'{CLI_NODES}/*',
            *(f'{own}/{name}' for name in PARAMETER_SERVICES),
        },
        request=set(node.reply),
        call=set(node.execute),
    )


def _robot(profile: RobotProfile, node: Access, namespace: str, nodes: set[str]) -> Access:
    published = [profile.joint_states_topic, 'task_success']
    if profile.pose_source == 'topic':
        published.append(profile.pose_topic)
    if _uses_tf(profile):
        published += BROADCASTS
    if profile.simulated:
        published.append('/clock')
    access = _driver(nodes)
    access.publish |= {resolve(name, namespace) for name in published}
    access.subscribe |= {resolve(name, namespace) for name in _commands(profile)[0]}
    access.execute |= node.call
    return access


def _camera(profile: RobotProfile, namespace: str, nodes: set[str]) -> Access:
    access = _driver(nodes)
    for camera in profile.cameras:
        image = camera.topic.removesuffix('/compressed') if camera.compressed else camera.topic
        # What image_transport publishes with an image.
        published = [image, f'{image}/*', f'{image.rpartition("/")[0]}/camera_info'.lstrip('/')]
        published += [camera.info_topic] if camera.info_topic is not None else []
        published += {'topic': [camera.extrinsics_topic], 'tf': ['/tf_static']}.get(
            camera.extrinsics, []
        )
        access.publish |= {resolve(name, namespace) for name in published}
    return access


def _driver(nodes: set[str]) -> Access:
    """Let nodes have whatever topics and services are below their own names."""
    own = {f'{name}/*' for name in nodes}
    return Access(
        publish={*EVERY_NODE, '/diagnostics', *own},
        subscribe={'/clock', '/parameter_events', *own},
        reply=set(own),
    )


def _commands(profile: RobotProfile) -> tuple[list[str], list[str]]:
    """List the topics and the actions that command the robot, as the profile has them."""
    grippers = profile.gripper.outputs
    topics = [output.topic for output in profile.outputs]
    topics += [output.topic for output in grippers if output.kind == 'float64']
    return topics, [output.topic for output in grippers if output.kind != 'float64']


def _questioned(profile: RobotProfile) -> list[str]:
    """List the controllers that the policy node asks for their parameters."""
    names = []
    for output in profile.outputs:
        name, _, word = output.topic.rpartition('/')
        servo = output.kind == 'twist_stamped' and word == SERVO_TOPIC
        if name and (servo or (output.kind in TRAJECTORIES and word == 'joint_trajectory')):
            names.append(name)
    return names


def _uses_tf(profile: RobotProfile) -> bool:
    return profile.pose_source == 'tf' or any(c.extrinsics == 'tf' for c in profile.cameras)


def _parent(name: str) -> str:
    """Name of the node that has a topic of its own; empty if no part of the name says it."""
    return name.rpartition('/')[0].removeprefix('~')


def _guessed_robot_nodes(profile: RobotProfile) -> list[str]:
    topics, actions = _commands(profile)
    return [*DRIVERS, *(name for topic in topics + actions if (name := _parent(topic)))]


def _guessed_camera_nodes(profile: RobotProfile) -> list[str]:
    # The first word, with the slash of an absolute name.
    return [f'{c.topic[:1]}{c.topic[1:].partition("/")[0]}' for c in profile.cameras]


def _nodes(names: Sequence[str], namespace: str) -> set[str]:
    return {resolve(_checked_node(name), namespace) for name in names}


def _checked_node(name: str) -> str:
    problem = topic_name(name)
    if problem or name.startswith('~'):
        raise UserError(f'node {name!a}: {problem or "expected the name of another node"}')
    return name


def _checked(namespace: str, what: str) -> str:
    problem = topic_name(namespace) if namespace else None
    if problem:
        raise UserError(f'{what} {namespace!a}: {problem}')
    return f'/{namespace}'
