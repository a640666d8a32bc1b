"""YAML that remembers its lines, so that each problem can be shown where it is."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.units import quantity

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Problem:
    """What is wrong in a file, and where."""

    line: int
    """From 1."""
    message: str


class Section:
    """
    A mapping of a YAML file that is read key by key.

    What is missing or wrong is noted in `problems`, which all sections of a file share, and
    reading goes on with a default: all problems of a file are found at once. `close` notes the
    keys that nobody asked for.
    """

    def __init__(self, node: yaml.Node, path: str, problems: list[Problem]) -> None:
        self.line = node.start_mark.line + 1
        self.path = path
        self.problems = problems
        self._nodes, self._key_lines, self._asked = {}, {}, []
        if not isinstance(node, yaml.MappingNode):
            self.problem(f'{path or "the file"}: expected keys with values')
            return
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problem(f'{path}: a key must be a word', line)
            elif key.value in self._nodes:
                self.problem(
                    f'{self.name(key.value)} is there twice, first in line '
                    f'{self._key_lines[key.value]}',
                    line,
                )
            else:
                self._nodes[key.value], self._key_lines[key.value] = value, line

    def problem(self, message: str, line: int | None = None) -> None:
        """Note a problem, in the section's first line where no line is given."""
        self.problems.append(Problem(line or self.line, message))

    def name(self, key: str) -> str:
        """Full name of a key, for messages."""
        return f'{self.path}.{key}' if self.path else key

    def line_of(self, key: str) -> int:
        """Line of a key, or of the section where it is missing."""
        return self._key_lines.get(key, self.line)

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def keys(self) -> tuple[str, ...]:
        """All keys, in the file's order; they count as asked for."""
        self._asked += self._nodes
        return tuple(self._nodes)

    def text(
        self, key: str, default: str | None = None, choices: tuple[str, ...] = ()
    ) -> str | None:
        """Read text; without a default it is required. Empty text counts as missing."""
        node = self._scalar(key, default is None)
        value = default if node is None else node.value
        if node is not None and node.value == '' and default is None:
            self.problem(f'{self.name(key)} is empty', self.line_of(key))
        if choices and value is not None and value not in choices:
            self.problem(
                f'{self.name(key)} is {value!r}, expected one of {", ".join(choices)}',
                self.line_of(key),
            )
            return default
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Read a truth value, written true or false; without a default it is required."""
        node = self._scalar(key, default is None)
        if node is None:
            return bool(default)
        if node.value not in ('true', 'false'):
            self.problem(
                f'{self.name(key)} is {node.value!r}, expected true or false', self.line_of(key)
            )
        return node.value == 'true'

    def number(
        self,
        key: str,
        dimension: str,
        default: float | None = None,
        required: bool = False,
        low: float | None = None,
        high: float | None = None,
    ) -> float | None:
        """Read a number in SI units, in [low, high]."""
        node = self._scalar(key, required)
        return (
            default if node is None else self._quantity(key, node, dimension, default, low, high)
        )

    def positive(
        self, key: str, dimension: str, default: float | None = None, required: bool = False
    ) -> float | None:
        """Read a number above zero, in SI units."""
        value = self.number(key, dimension, default, required)
        if value is not None and not value > 0:
            self.problem(
                f'{self.name(key)} is {value:g}, expected more than zero', self.line_of(key)
            )
            return default
        return value

    def numbers(
        self, key: str, dimension: str, count: int, required: bool = False
    ) -> tuple[float, ...] | None:
        """List of so many numbers in SI units."""
        nodes = self._list(key, required)
        if nodes is None:
            return None
        if len(nodes) != count:
            self.problem(
                f'{self.name(key)} has {len(nodes)} values, expected {count}', self.line_of(key)
            )
            return None
        values = [self._quantity(key, node, dimension, None, None, None) for node in nodes]
        return None if None in values else tuple(values)

    def names(self, key: str, required: bool = False) -> tuple[str, ...]:
        """List of words."""
        nodes = self._list(key, required) or []
        for node in nodes:
            if not isinstance(node, yaml.ScalarNode) or not node.value:
                self.problem(
                    f'{self.name(key)}: expected a list of names', node.start_mark.line + 1
                )
                return ()
        return tuple(node.value for node in nodes)

    def section(self, key: str, required: bool = False) -> 'Section | None':
        """Return the section below a key."""
        node = self._node(key, required)
        return None if node is None else Section(node, self.name(key), self.problems)

    def sections(self, key: str, required: bool = False) -> list['Section']:
        """Return the list of sections below a key."""
        return [
            Section(node, f'{self.name(key)}[{index}]', self.problems)
            for index, node in enumerate(self._list(key, required) or [])
        ]

    def close(self) -> None:
        """Note every key that was not asked for."""
        for key in self._nodes:
            if key not in self._asked:
                known = ', '.join(sorted(set(self._asked)))
                self.problem(
                    f'{self.name(key)} is not known; known here: {known}', self.line_of(key)
                )

    def _node(self, key, required):
        self._asked.append(key)
        node = self._nodes.get(key)
        if node is None and required:
            self.problem(f'{self.name(key)} is missing')
        return node

    def _scalar(self, key, required):
        node = self._node(key, required)
        if node is not None and not isinstance(node, yaml.ScalarNode):
            self.problem(f'{self.name(key)}: expected a single value', self.line_of(key))
            return None
        return node

    def _list(self, key, required):
        node = self._node(key, required)
        if node is not None and not isinstance(node, yaml.SequenceNode):
            self.problem(f'{self.name(key)}: expected a list', self.line_of(key))
            return None
        return None if node is None else node.value

    def _quantity(self, key, node, dimension, default, low, high):
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.problem(f'{self.name(key)}: expected a number', line)
            return default
        try:
            value = quantity(node.value, dimension)
        except ValueError as error:
            self.problem(f'{self.name(key)}: {error}', line)
            return default
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f'{"-inf" if low is None else low} .. {"inf" if high is None else high}'
            self.problem(f'{self.name(key)} is {value:g}, expected {bounds}', line)
            return default
        return value


def read_document(path: Path, problems: list[Problem]) -> Section | None:
    """Read a file's top section; None where it is no YAML. Raises UserError if unreadable."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise UserError(f'{path}: it is larger than {MAX_BYTES} bytes; is it a profile?')
        node = yaml.compose(data.decode('utf-8'), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a text file ({error})') from None
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        problems.append(
            Problem(
                1 if mark is None else mark.line + 1,
                f'no YAML: {getattr(error, "problem", None) or error}',
            )
        )
        return None
    except RecursionError:
        problems.append(Problem(1, 'no YAML that can be read: nested too deeply'))
        return None
    if node is None:
        problems.append(Problem(1, 'the file is empty'))
        return None
    return Section(node, '', problems)
