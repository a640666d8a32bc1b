"""Parameters that were given on the command line and reach nobody."""

from collections.abc import Sequence
import difflib
import itertools
from pathlib import Path
from typing import Any

from rclpy.node import Node

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_yaml

PARAMS_FILE = '--params-file'
PARAMETERS_KEY = 'ros__parameters'
SHOWN = 60
"""Characters of a name that are shown."""


def unused_parameters(node: Node) -> list[str]:
    """
    Find parameters that were given to a node and that it has not declared.

    Args:
        node: Node that has declared all of its parameters.

    Returns:
        One line for each.
    """
    declared = list(node._parameters)
    lines = []
    for name in node._parameter_overrides:
        if name in declared:
            continue
        near = difflib.get_close_matches(name, declared, 1)
        lines.append(
            f'parameter {name[:SHOWN]!a} is not one of this node, so its value is not used'
            + (f'; did you mean {near[0]!r}?' if near else '; see doc/parameters.md')
        )
    return lines


def unmatched_files(arguments: Sequence[str], name: str) -> list[str]:
    """
    Find parameter files that have nothing for a node.

    Args:
        arguments: Command line of the process.
        name: Fully qualified name of the node.

    Returns:
        One line for each file.
    """
    lines = []
    for flag, path in itertools.pairwise(arguments):
        if flag != PARAMS_FILE:
            continue
        names = _nodes_of(Path(path))
        if names and not any(known == name or '*' in known for known in names):
            shown = ', '.join(ascii(known[:SHOWN]) for known in names[:3])
            lines.append(f'{path}: has parameters of {shown}, and none of {name}; name it {name}')
    return lines


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
