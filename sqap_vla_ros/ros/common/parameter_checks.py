"""Parameters, parameter files and remappings of the command line that reach nobody."""

from collections.abc import Iterable, Iterator, Sequence
import difflib
from pathlib import Path
import re
from typing import Any

from rclpy.action import ActionClient
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_yaml
from sqap_vla_ros.ros.common.problems import Problem

PARAMETERS_KEY = 'ros__parameters'
PARAMETER, FILE, REMAP = '-p', '--params-file', '-r'
_FLAGS = {'-p': PARAMETER, '--param': PARAMETER, FILE: FILE, '-r': REMAP, '--remap': REMAP}
EVERYWHERE = ('/tf', '/tf_static', '/clock', '/rosout', '/parameter_events', '/diagnostics')
"""Names that launch files remap for all of their nodes, whether these use them or not."""
SHOWN = 80
"""Characters of a name that are shown."""
_REMAP_RULE = re.compile(r'(?:(?P<node>\w+):(?!//))?(?:\w+://)?(?P<name>[^:]*)')


def argument_problems(node: Node, arguments: Sequence[str], code_name: str = '') -> list[Problem]:
    """
    Find everything on a command line that was meant for a node and has no effect.

    Args:
        node: Node with all of its parameters. Where it makes names and parameters later, its
            methods `expected_names`, `expected_actions` and `expected_parameters` return them, if
            it has these.
        arguments: Command line of the process.
        code_name: Name of the node before remapping; empty: as it is.

    Returns:
        The problems.
    """
    rules = list(ros_arguments(arguments))
    actions = tuple(getattr(node, 'expected_actions', tuple)())
    expected = (*getattr(node, 'expected_names', tuple)(), *actions)
    lines = [
        *unused_parameters(node, getattr(node, 'expected_parameters', tuple)()),
        *foreign_parameters(rules, node.get_fully_qualified_name()),
        *unmatched_files(rules, node.get_fully_qualified_name()),
        *unmatched_remappings(rules, node, expected, code_name or node.get_name(), actions),
    ]
    return [Problem('argument', line, line) for line in lines]


def ros_arguments(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """
    Find what rcl reads of a command line.

    Args:
        arguments: Command line of the process.

    Yields:
        PARAMETER, FILE or REMAP, and the word after it.
    """
    inside, flag = False, None
    for word in arguments:
        if flag is not None:
            yield flag, word
            flag = None
        elif word in ('--ros-args', '--'):
            inside = word == '--ros-args'
        elif inside:
            flag = _FLAGS.get(word)


def unused_parameters(node: Node, expected: Iterable[str] = ()) -> list[str]:
    """
    Find parameters that were given to a node and that it has not declared.

    Args:
        node: Node that has declared its parameters.
        expected: Those that it will declare later.

    Returns:
        One line for each.
    """
    declared = [*node._parameters, *expected]
    lines = []
    for name in node._parameter_overrides:
        if name in declared:
            continue
        near = difflib.get_close_matches(name, declared, 1)
        lines.append(
            f'parameter {_shown(name)} is not one of this node, so its value is not used'
            + (f'; did you mean {near[0]!r}?' if near else '; see doc/parameters.md')
        )
    return lines


def foreign_parameters(rules: Iterable[tuple[str, str]], name: str) -> list[str]:
    """
    Find parameters `NODE:PARAMETER:=VALUE` that are for another node.

    Args:
        rules: From `ros_arguments`.
        name: Fully qualified name of the node.

    Returns:
        One line for each.
    """
    lines = []
    for flag, rule in rules:
        prefix, colon, parameter = rule.partition(':=')[0].partition(':')
        if flag == PARAMETER and colon and not reaches(prefix, name):
            lines.append(
                f'-p {_shown(rule)}: is for the node /{_plain(prefix)}, and this one is {name}, '
                f'so the value is not used; write -p {_plain(parameter)}:=...'
            )
    return lines


def unmatched_files(rules: Iterable[tuple[str, str]], name: str) -> list[str]:
    """
    Find parameter files that have nothing for a node.

    Args:
        rules: From `ros_arguments`.
        name: Fully qualified name of the node.

    Returns:
        One line for each file.
    """
    lines = []
    for flag, path in rules:
        names = _nodes_of(Path(path)) if flag == FILE else []
        if names and not any(reaches(pattern, name) for pattern in names):
            shown = ', '.join(_shown(known) for known in names[:3])
            lines.append(f'{path}: has parameters of {shown}, and none of {name}; name it {name}')
    return lines


def unmatched_remappings(
    rules: Iterable[tuple[str, str]],
    node: Node,
    expected: Iterable[str],
    code_name: str,
    actions: Iterable[str] = (),
) -> list[str]:
    """
    Find remappings that rename nothing.

    Args:
        rules: From `ros_arguments`.
        node: The node.
        expected: Topics, services and actions that it will make later, not resolved.
        code_name: Name of the node before remapping.
        actions: Those of `expected` that are actions.

    Returns:
        One line for each.
    """
    remappings = [rule for flag, rule in rules if flag == REMAP]
    if not remappings:
        return []
    name, namespace = node.get_name(), node.get_namespace()
    known = {_expanded(used, name, namespace) for used in (*_names_of(node), *expected)}
    served = {_expanded(used, name, namespace) for used in actions}
    lines = []
    for rule in remappings:
        left, _, right = rule.partition(':=')
        match = _REMAP_RULE.fullmatch(left)
        if match is None:
            continue
        prefix, source = match['node'], match['name']
        # Only the rule that renames the node knows it by its old name.
        mine = (name, code_name) if source in ('__node', '__name') else (name,)
        if prefix is not None and prefix not in mine:
            lines.append(
                f'-r {_shown(rule)}: is for the node {_plain(prefix)}, and this one is {name}, so '
                f'nothing is renamed; write -r {_plain(source)}:=...'
            )
            continue
        full = _expanded(source, name, namespace)
        if full in served and _keeps_its_name(node, full):
            lines.append(
                f'-r {_shown(rule)}: this version of ROS 2 does not rename actions, so it is '
                f'still {_plain(full)}; use a namespace, -r __ns:=/NAME, or rename the services '
                f'and topics below {_plain(full)}/_action/ one by one'
            )
            continue
        action = full.partition('/_action/')[0]
        if source.startswith('__') or {full, action} & {*known, *EVERYWHERE}:
            continue
        line = f'-r {_shown(rule)}: this node has no topic, service or action {_plain(full)}'
        near = difflib.get_close_matches(full, known, 1)
        if _expanded(right, name, namespace) in known:
            line += f'; the old name comes first: -r {_plain(right)}:={_plain(source)}'
        elif near:
            line += f'; did you mean {near[0]}?'
        else:
            line += ', so nothing is renamed; see `ros2 node info`'
        lines.append(line)
    return lines


def _keeps_its_name(node: Node, action: str) -> bool:
    """Whether rcl does not rename this action; up to Jazzy it renames none. It is tried."""
    client = ActionClient(node, ExecuteInstruction, action)
    try:
        used = node.get_client_names_and_types_by_node(node.get_name(), node.get_namespace())
    finally:
        client.destroy()
    return f'{action}/_action/send_goal' in dict(used)


def reaches(pattern: str, name: str) -> bool:
    """
    Whether parameters under a name of a file reach a node; as in rcl.

    Args:
        pattern: Name with its namespace; '*' stands for one part of it, '**' for any number.
        name: Fully qualified name of the node.
    """
    parts = [
        {'*': r'/\w+', '**': r'(?:/\w+)*'}.get(part, '/' + re.escape(part))
        for part in pattern.split('/')
        if part
    ]
    return re.fullmatch(''.join(parts), name) is not None


def _names_of(node: Node) -> Iterator[str]:
    """Names that the code of a node uses, before they are expanded and remapped."""
    yield from (publisher.topic for publisher in node.publishers)
    yield from (subscription.topic for subscription in node.subscriptions)
    yield from (service.srv_name for service in node.services)
    yield from (client.srv_name for client in node.clients)


def _expanded(used: str, name: str, namespace: str) -> str:
    try:
        return expand_topic_name(used, name, namespace)
    except ValueError:
        return used


def _nodes_of(path: Path) -> list[str]:
    """List the nodes of a parameter file, with their namespaces; rcl has read it already."""
    try:
        data = read_yaml(path, 'a parameter file')
    except UserError:
        return []
    return _walk(data, '')


def _walk(data: Any, prefix: str) -> list[str]:
    if not isinstance(data, dict):
        return []
    found = []
    for key, value in data.items():
        if key == PARAMETERS_KEY:
            found.append(prefix or '/')
        else:
            found += _walk(value, f'{prefix}/{str(key).strip("/")}')
    return found


def _shown(word: str) -> str:
    return ascii(word[:SHOWN])


def _plain(word: str) -> str:
    return ascii(word[:SHOWN])[1:-1]
