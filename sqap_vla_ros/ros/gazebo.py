"""One of several arms in a world of Gazebo: what has to carry its namespace. No ROS is needed."""

from pathlib import Path
import tempfile
from typing import NamedTuple
from xml.etree import ElementTree

import yaml

from sqap_vla_ros.errors import UserError

CONTROLLERS_FILE = 'CONTROLLERS_FILE'
"""In a robot description: the place of the file with the parameters of the controllers."""
CONTROL_PLUGIN = 'gz_ros2_control'
CLOCK = '/clock'


class Description(NamedTuple):
    """A robot description for one namespace."""

    urdf: str
    topics: frozenset[str]
    """Topics of Gazebo that it named without a slash; they begin with the namespace now."""


def namespaced_description(urdf: str, controllers_file: str, namespace: str = '') -> Description:
    """
    Make the description of a robot that shares its world with others.

    ROS names are relative and need nothing, but gz_ros2_control has to be told its namespace, and
    topics of Gazebo are global.

    Args:
        urdf: URDF, with `CONTROLLERS_FILE` where that file's name belongs.
        controllers_file: Parameters of the controllers.
        namespace: Namespace of the robot's nodes; empty: none, and only the file is filled in.

    Returns:
        The description: gz_ros2_control in the namespace, unless it has one of its own, and each
        `<topic>` of a `<gazebo>` element that does not begin with a slash below the namespace.

    Raises:
        UserError: The URDF is not well-formed.
    """
    urdf = urdf.replace(CONTROLLERS_FILE, controllers_file)
    namespace = namespace.strip('/')
    if not namespace:
        return Description(urdf, frozenset())
    try:
        robot = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise UserError(f'robot description: not well-formed XML ({error})') from None
    topics = set()
    for gazebo in robot.iter('gazebo'):
        for element in gazebo.iter('topic'):
            topic = (element.text or '').strip()
            if topic and not topic.startswith('/'):
                topics.add(topic)
                element.text = f'{namespace}/{topic}'
        for plugin in gazebo.iter('plugin'):
            if CONTROL_PLUGIN in plugin.get('filename', '') and plugin.find('ros') is None:
                ros = ElementTree.SubElement(plugin, 'ros')
                ElementTree.SubElement(ros, 'namespace').text = f'/{namespace}'
    return Description(ElementTree.tostring(robot, encoding='unicode'), frozenset(topics))


def bridge_file(
    file: str, robot_topics: frozenset[str] = frozenset(), namespace: str = '', clock: bool = True
) -> str:
    """
    Name the `config_file` of ros_gz_bridge for one robot.

    Args:
        file: Configuration without namespaces: topics of ROS are relative to the bridge's.
        robot_topics: Topics of Gazebo that belong to the robot, see `Description`; the others
            belong to the world.
        namespace: Namespace of the robot.
        clock: Whether this bridge passes on /clock; of several, one does.

    Returns:
        `file` if nothing changes, otherwise a new temporary file.

    Raises:
        UserError: The file cannot be read, or is no list of bridged topics.
    """
    namespace = namespace.strip('/')
    if clock and not (namespace and robot_topics):
        return file
    try:
        entries = yaml.safe_load(Path(file).expanduser().read_text('utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f'bridge_file {file}: cannot be read ({error})') from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f'bridge_file {file}: expected a list of topics, as for ros_gz_bridge')
    kept = [entry for entry in entries if clock or entry.get('ros_topic_name') != CLOCK]
    for entry in kept:
        if namespace and entry.get('gz_topic_name') in robot_topics:
            entry['gz_topic_name'] = f'{namespace}/{entry["gz_topic_name"]}'
    with tempfile.NamedTemporaryFile(
        'w', prefix='sqap_vla_bridge_', suffix='.yaml', delete=False, encoding='utf-8'
    ) as target:
        yaml.safe_dump(kept, target)
    return target.name
