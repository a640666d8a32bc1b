"""YAML read with line numbers, so that every problem is reported with its line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import yaml

from sqap_vla_ros.errors import one_line, shown
from sqap_vla_ros.input_files import compose_yaml, read_text, YAML_BYTES, yaml_problem
from sqap_vla_ros.profiles.names import NameCheck, plain_name
from sqap_vla_ros.profiles.units import has_unit, quantity, UNITS

MOST_ENTRIES = 256
"""Of a list or a section; robots have fewer joints."""
NULL = 'tag:yaml.org,2002:null'
"""Tag of null, ~ and nothing in YAML."""
FILL_IN = 'FILL_IN'
"""Stands in a generated profile for a number that only the user knows."""


@dataclass(frozen=True)
class Problem:
    """A mistake in a file, with its line."""

    line: int
    """Counted from 1."""
    message: str


class Section:
    """
    A mapping of a YAML file, read key by key.

    Missing and wrong values are added to `problems`, which all sections of a file share. Reading
    then continues with a default, so that all problems of a file are found in one pass. `close`
    reports the keys that were never read.
    """

    def __init__(self, node: yaml.Node, path: str, problems: list[Problem]) -> None:
        self.line = node.start_mark.line + 1
        self.path = path
        self.problems = problems
        self._nodes: dict[str, yaml.Node] = {}
        self._key_lines: dict[str, int] = {}
        self._asked: list[str] = []
        if not isinstance(node, yaml.MappingNode):
            self.problem(f'{path or "the file"}: expected keys with values')
            return
        if len(node.value) > MOST_ENTRIES:
            self.problem(
                f'{path or "the file"} has {len(node.value)} keys, expected at most {MOST_ENTRIES}'
            )
            return
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problem(f'{path}: a key must be a word', line)
            elif key.value in self._nodes:
                self.problem(
                    f'{self.name(key.value)} is there twice, first in line '
                    f'{self._key_lines[key.value]}; remove one of them',
                    line,
                )
            else:
                self._nodes[key.value], self._key_lines[key.value] = value, line

    def problem(self, message: str, line: int | None = None) -> None:
        """Add a problem; without a line, it is reported in the first line of the section."""
        self.problems.append(Problem(line or self.line, one_line(message)))

    def name(self, key: str) -> str:
        """Return the full name of a key, for messages."""
        return f'{self.path}.{key}' if self.path else key

    def line_of(self, key: str) -> int:
        """Return the line of a key, or of the section when the key is missing."""
        return self._key_lines.get(key, self.line)

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def keys(self) -> tuple[str, ...]:
        """Return all keys, in the file's order; they count as read."""
        self._asked += self._nodes
        return tuple(self._nodes)

    @overload
    def text(
        self,
        key: str,
        default: None = None,
        choices: Sequence[str] = (),
        check: NameCheck | None = None,
    ) -> str | None: ...

    @overload
    def text(
        self,
        key: str,
        default: str,
        choices: Sequence[str] = (),
        check: NameCheck | None = None,
    ) -> str: ...

    def text(
        self,
        key: str,
        default: str | None = None,
        choices: Sequence[str] = (),
        check: NameCheck | None = None,
    ) -> str | None:
        """
        Read text; empty text counts as missing.

        Args:
            key: key to read.
            default: value when the key is missing; None: the key is required.
            choices: allowed values; empty: any.
            check: what a name must fulfil; see `names`.
        """
        node = self._scalar(key, default is None)
        value: str | None = default if node is None else node.value
        if node is not None and node.tag == NULL and (node.value or default is not None):
            self.problem(
                f'{self.name(key)} has no value (in YAML, {node.value or "nothing"} means none); '
                'leave the key out, or put a name in quotes',
                self.line_of(key),
            )
            return default
        if node is not None and node.value == '' and default is None:
            self.problem(f'{self.name(key)} is empty', self.line_of(key))
        if choices and value is not None and value not in choices:
            self.problem(
                f'{self.name(key)} is {shown(value)}, expected one of {", ".join(choices)}',
                self.line_of(key),
            )
            return default
        if value and node is not None and check is not None:
            wrong = check(value)
            if wrong:
                self.problem(f'{self.name(key)} is {shown(value)}: {wrong}', self.line_of(key))
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Read text that must be one of the choices; None when the key is missing."""
        return self.text(key, choices=choices) if self._node(key, False) is not None else None

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Read true or false; without a default the key is required."""
        node = self._scalar(key, default is None)
        if node is None:
            return bool(default)
        if node.value not in ('true', 'false'):
            self.problem(
                f'{self.name(key)} is {shown(node.value)}, expected true or false',
                self.line_of(key),
            )
        return bool(node.value == 'true')

    @overload
    def number(
        self,
        key: str,
        dimension: str,
        default: None = None,
        required: bool = False,
        low: float | None = None,
        high: float | None = None,
        bare: float | None = None,
        positive: bool = False,
    ) -> float | None: ...

    @overload
    def number(
        self,
        key: str,
        dimension: str,
        default: float,
        required: bool = False,
        low: float | None = None,
        high: float | None = None,
        bare: float | None = None,
        positive: bool = False,
    ) -> float: ...

    def number(
        self,
        key: str,
        dimension: str,
        default: float | None = None,
        required: bool = False,
        low: float | None = None,
        high: float | None = None,
        bare: float | None = None,
        positive: bool = False,
    ) -> float | None:
        """
        Read a number, converted to SI units.

        Args:
            key: key to read.
            dimension: one of `units.UNITS`.
            default: value when the key is missing or wrong.
            required: whether a missing key is a problem.
            low: smallest allowed value, in SI units; None: no bound.
            high: largest allowed value, in SI units; None: no bound.
            bare: largest magnitude, in SI units, that is allowed without a unit: a larger one may
                have been meant in another unit; None: no bound.
            positive: whether zero and less are problems.
        """
        node = self._scalar(key, required)
        if node is None:
            return default
        value = self._quantity(key, node, dimension, default, low, high, bare)
        if positive and value is not None and not value > 0:
            self.problem(
                f'{self.name(key)} is {value:g}, expected more than zero', self.line_of(key)
            )
            return default
        return value

    def numbers(
        self,
        key: str,
        dimension: str,
        count: int,
        required: bool = False,
        largest: float | None = None,
        bare: float | None = None,
    ) -> tuple[float, ...] | None:
        """
        Read a list of numbers, in SI units.

        Args:
            key: key to read.
            dimension: one of `units.UNITS`.
            count: how many numbers there must be.
            required: whether a missing key is a problem.
            largest: largest allowed magnitude, in SI units; None: no bound.
            bare: see `number`.

        Returns:
            The numbers; None when they are missing or wrong.
        """
        nodes = self._list(key, required)
        if nodes is None:
            return None
        if len(nodes) != count:
            self.problem(
                f'{self.name(key)} has {len(nodes)} values, expected {count}', self.line_of(key)
            )
            return None
        low = None if largest is None else -largest
        values = [self._quantity(key, node, dimension, None, low, largest, bare) for node in nodes]
        valid = tuple(value for value in values if value is not None)
        return valid if len(valid) == count else None

    def names(self, key: str, required: bool = False) -> tuple[str, ...]:
        """Read a list of names; empty when it is missing or wrong."""
        nodes = self._list(key, required) or []
        names: list[str] = []
        for node in nodes:
            wrong = isinstance(node, yaml.ScalarNode) and plain_name(node.value)
            if not isinstance(node, yaml.ScalarNode) or not node.value or wrong:
                self.problem(
                    f'{self.name(key)}: expected a list of names'
                    + (f': {wrong}' if wrong else ''),
                    node.start_mark.line + 1,
                )
                return ()
            names.append(node.value)
        return tuple(names)

    def section(self, key: str, required: bool = False) -> 'Section | None':
        """Return the section below a key; None when the key is missing."""
        node = self._node(key, required)
        return None if node is None else Section(node, self.name(key), self.problems)

    def sections(self, key: str, required: bool = False) -> list['Section']:
        """Return the list of sections below a key."""
        return [
            Section(node, f'{self.name(key)}[{index}]', self.problems)
            for index, node in enumerate(self._list(key, required) or [])
        ]

    def close(self) -> None:
        """Report every key that was never read. Call after all known keys have been read."""
        for key in self._nodes:
            if key not in self._asked:
                known = ', '.join(sorted(set(self._asked)))
                self.problem(
                    f'{self.name(key)} is not known; known here: {known}', self.line_of(key)
                )

    def _node(self, key: str, required: bool) -> yaml.Node | None:
        self._asked.append(key)
        node = self._nodes.get(key)
        if node is None and required:
            self.problem(f'{self.name(key)} is missing')
        return node

    def _scalar(self, key: str, required: bool) -> yaml.ScalarNode | None:
        node = self._node(key, required)
        if node is not None and not isinstance(node, yaml.ScalarNode):
            self.problem(f'{self.name(key)}: expected a single value', self.line_of(key))
            return None
        return node

    def _list(self, key: str, required: bool) -> list[yaml.Node] | None:
        node = self._node(key, required)
        if node is not None and not isinstance(node, yaml.SequenceNode):
            self.problem(f'{self.name(key)}: expected a list', self.line_of(key))
            return None
        if node is not None and len(node.value) > MOST_ENTRIES:
            self.problem(
                f'{self.name(key)} has {len(node.value)} entries, expected at most {MOST_ENTRIES}',
                self.line_of(key),
            )
            return None
        return None if node is None else node.value

    def _quantity(
        self,
        key: str,
        node: yaml.Node,
        dimension: str,
        default: float | None,
        low: float | None,
        high: float | None,
        bare: float | None,
    ) -> float | None:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.problem(f'{self.name(key)}: expected a number', line)
            return default
        if node.value == FILL_IN:
            self.problem(
                f'{self.name(key)} is still {FILL_IN}: write the number of your robot', line
            )
            return default
        try:
            value = quantity(node.value, dimension)
        except ValueError as error:
            self.problem(f'{self.name(key)}: {error}', line)
            return default
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = (
                f'at most {high:g}'
                if low is None
                else f'at least {low:g}'
                if high is None
                else f'{low:g} .. {high:g}'
            )
            self.problem(
                f'{self.name(key)} is {node.value[:60]}, expected {bounds}'
                f'{_in_unit(node, dimension)}',
                line,
            )
            return default
        if bare is not None and abs(value) > bare and not has_unit(node.value):
            units = list(UNITS[dimension])
            self.problem(
                f'{self.name(key)} is {node.value} without a unit, which is more than usual in '
                f'{units[0]}; write its unit: '
                + ' or '.join(f'{node.value} {unit}' for unit in units),
                line,
            )
            return default
        return value


def _in_unit(node: yaml.ScalarNode, dimension: str) -> str:
    """Name the unit of the bounds, and of a number that was given without one."""
    unit = next(iter(UNITS[dimension]))
    if unit == '1':
        return ''
    return f' {unit}' if has_unit(node.value) else f' {unit}; a number without a unit is in {unit}'


def read_document(path: Path, problems: list[Problem]) -> Section | None:
    """
    Read the top section of a YAML file.

    Args:
        path: file to read.
        problems: list that the problems of the file are added to.

    Returns:
        The top section; None when the file is empty or not valid YAML.

    Raises:
        UserError: the file cannot be read, or is larger than `YAML_BYTES`.
    """
    text = read_text(path, YAML_BYTES, 'a YAML file')
    try:
        node = compose_yaml(text)
    except yaml.YAMLError as error:
        line, problem = yaml_problem(error)
        problems.append(Problem(line, f'not valid YAML: {problem}'))
        return None
    if node is None:
        problems.append(Problem(1, 'the file is empty'))
        return None
    return Section(node, '', problems)
