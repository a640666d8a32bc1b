"""
Node parameters as values of Python: a `Setting` each, and frozen dataclasses made of them.

A node that has many parameters writes them as a frozen dataclass, one `setting()` per field:

    @dataclass(frozen=True)
    class CameraSettings:
        rate_hz: float = setting(20.0, 'images per second', 0.5, 60.0)
        encoding: str = setting('rgb8', 'of the images', choices=('rgb8', 'bgr8'))

`declare(node, CameraSettings)` declares them and returns their values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
import math
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from sqap_vla_ros.errors import UserError

NUMBERED = ':N'
"""Ending of a choice that stands for any whole number: 'cuda:N' allows 'cuda:0'."""
OPPOSITE = {'below': 'above', 'above': 'below'}
S = TypeVar('S')


@dataclass(frozen=True)
class Setting:
    """One parameter of a node."""

    name: str
    default: Any
    """Its type is the type of the parameter."""
    text: str
    """Description for users."""
    low: float | None = None
    """Smallest value; of numbers only, and given together with `high`."""
    high: float | None = None
    read_only: bool = False
    """Whether it can be set only when the node starts."""
    choices: tuple[str, ...] = ()
    """All possible values; empty: any. See also `NUMBERED`."""
    keeps: str = ''
    """'below' or 'above': while the node runs, the value stays at or below (above) the one that it
    was started with, so that nobody on the graph can loosen a limit; of truth values, false is the
    lower one. Empty: any value."""

    def loosened(self, value: Any, started: Any) -> str | None:
        """
        Say that a value is beyond the one that the node was started with, where `keeps` forbids.

        Args:
            value: New value, a number or several.
            started: Value at the start.

        Returns:
            What is wrong, beginning with 'is'; None if the value is allowed.
        """
        if not self.keeps:
            return None
        several = isinstance(self.default, (list, tuple))  # the value itself may be an array
        new, old = (list(v) if several else [v] for v in (value, started))
        sign = 1 if self.keeps == 'below' else -1
        if all(sign * a <= sign * b for a, b in zip(new, old)):
            return None
        shown, first = (new, old) if several else (value, started)
        bound = '' if isinstance(started, bool) else 'at most ' if sign > 0 else 'at least '
        return (
            f'is {shown}, expected {bound}{first}, as the node was started with: a running node '
            'can be made more careful, not less; start it with another profile or parameter'
        )

    def descriptor(self) -> ParameterDescriptor:
        """Make the descriptor: description, range and choices."""
        descriptor = ParameterDescriptor(description=self.text, read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = f'one of: {", ".join(self.choices)}'
        elif self.keeps:
            descriptor.additional_constraints = (
                f'{str(self.keeps == "above").lower()} may be set at any time, '
                f'{str(self.keeps == "below").lower()} only at the start'
                if isinstance(self.default, bool)
                else f'not {OPPOSITE[self.keeps]} its value at the start'
            )
        if self.low is None or self.high is None:
            return descriptor
        if isinstance(self.default, int):
            descriptor.integer_range = [
                IntegerRange(from_value=int(self.low), to_value=int(self.high))
            ]
        elif isinstance(self.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            ]
        return descriptor

    def problem(self, value: Any) -> str | None:
        """
        Check what a descriptor cannot: choices, lists, NaN (which passes any range).

        Args:
            value: New value; ROS has checked its type and range.

        Returns:
            What is wrong, beginning with 'is' or 'expected'; None if the value is valid.
        """
        if self.choices and not self._is_choice(value):
            return f'is {value!r}, expected one of {", ".join(self.choices)}'
        if isinstance(self.default, (list, tuple)):
            if len(value) != len(self.default) or not all(map(math.isfinite, value)):
                return f'is {list(value)}, expected {len(self.default)} finite numbers'
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            if not all(low <= part <= high for part in value):
                return f'is {list(value)}, expected numbers of {low:g} .. {high:g}'
        elif isinstance(self.default, float) and not math.isfinite(value):
            return f'is {value}, expected a finite number'
        return None

    def declare(self, node: Node, default: Any = None) -> Any:
        """
        Declare the parameter on a node; one that is declared already keeps its value.

        Args:
            node: Node to declare it on.
            default: Value for this robot; None: the default of the setting.

        Returns:
            The value that the parameter has now; lists as tuples.

        Raises:
            UserError: The given value is not valid.
        """
        if node.has_parameter(self.name):
            value = node.get_parameter(self.name).value
        else:
            default = self.default if default is None else default
            if isinstance(default, tuple):
                default = list(default)
            value = node.declare_parameter(self.name, default, self.descriptor()).value
        problem = self.problem(value)
        if problem:
            raise UserError(f'parameter {self.name} {problem}')
        return tuple(value) if isinstance(self.default, (list, tuple)) else value

    def _is_choice(self, value: str) -> bool:
        if value in self.choices:
            return True
        prefix, _, number = value.rpartition(':')
        return number.isdecimal() and prefix + NUMBERED in self.choices


def setting(
    default: Any,
    text: str,
    low: float | None = None,
    high: float | None = None,
    *,
    read_only: bool = False,
    choices: tuple[str, ...] = (),
    keeps: str = '',
) -> Any:
    """
    Make a dataclass field that is a parameter; the arguments are the fields of `Setting`.

    Returns:
        A `dataclasses.field`; Any, as the type checker expects a value of the field's type.
    """
    return field(
        default=default,
        metadata={
            'text': text,
            'low': low,
            'high': high,
            'read_only': read_only,
            'choices': choices,
            'keeps': keeps,
        },
    )


def settings_of(cls: type) -> tuple[Setting, ...]:
    """List the parameters of a dataclass whose fields are made by `setting`."""
    return tuple(Setting(f.name, f.default, **f.metadata) for f in fields(cls))


def declare(node: Node, cls: type[S], defaults: Mapping[str, Any] | None = None) -> S:
    """
    Declare every parameter of a settings dataclass on a node.

    Args:
        node: Node to declare them on.
        cls: Frozen dataclass whose fields are made by `setting`.
        defaults: Parameter name to the value that replaces the default of the dataclass.

    Returns:
        An instance of `cls` with the values that the parameters have now.

    Raises:
        UserError: A given value is not one of the choices, not finite, or too short a list.
    """
    defaults = defaults or {}
    return cls(**{s.name: s.declare(node, defaults.get(s.name)) for s in settings_of(cls)})
