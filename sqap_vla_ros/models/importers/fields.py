"""Fields of a foreign configuration, each with its type and range checked."""

import math
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError


def section(path: Path, data: dict[str, Any], field: str) -> dict[str, Any]:
    """
    Read a field that holds an object; an empty one where the field is absent or null.

    Raises:
        UserError: it holds something else.
    """
    value = data.get(field)
    if value is not None and not isinstance(value, dict):
        raise UserError(f'{path}: {field} is {_short(value)}, expected an object')
    return value or {}


def whole_number(
    path: Path, data: dict[str, Any], field: str, default: int, low: int, high: int
) -> int:
    """
    Read a whole number from `low` to `high`.

    Args:
        path: of the file, for messages.
        data: the object that may have the field.
        field: its name; the message names it alone, so `data` is not a nested object of many.
        default: where the field is absent.
        low: smallest value.
        high: largest value.

    Raises:
        UserError: it is no whole number, or out of the range.
    """
    value = data.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(
            f'{path}: {field} is {_short(value)}, expected a whole number from {low} to {high}'
        )
    return value


def positive_number(path: Path, data: dict[str, Any], field: str, default: float) -> float:
    """
    Read a finite number above 0; arguments as for `whole_number`.

    Raises:
        UserError: it is something else.
    """
    value = data.get(field, default)
    if not is_number(value) or not value > 0:
        raise UserError(f'{path}: {field} is {_short(value)}, expected a number above 0')
    return float(value)


def expect(path: Path, data: dict[str, Any], field: str, *allowed: object) -> None:
    """
    Check that a field is absent or has one of the values that this package implements.

    Raises:
        UserError: it has another.
    """
    if field in data and not any(
        data[field] == value and type(data[field]) is type(value) for value in allowed
    ):
        known = ' or '.join(map(repr, allowed))
        raise UserError(f'{path}: {field} is {_short(data[field])}; only {known} is supported')


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number that fits into a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
