"""Conversion of actions and states between the dataset's units and the model's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import names_of, read_json
from sqap_vla_ros.models.preprocessing.normalisation import check_together, LARGEST

STATISTICS_FILE = 'dataset_statistics.json'
SMALLEST_STD = 1e-9
"""A smaller deviation makes of any other state than the mean a number without meaning."""


@dataclass(frozen=True)
class Statistics:
    """Per-column statistics of one dataset."""

    action_low: np.ndarray
    """float32 [A], 1st percentile, which is normalised to -1."""
    action_high: np.ndarray
    """float32 [A], 99th percentile, which is normalised to +1."""
    action_mask: np.ndarray
    """bool [A]; columns with False are not normalised."""
    state_mean: np.ndarray
    state_std: np.ndarray

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [..., A] from the dataset's units to about [-1, 1], float32."""
        span = np.where(self.action_mask, self.action_high - self.action_low, 1)
        span = np.where(span > 0, span, 1)  # a column that never moved in the data
        scaled = 2 * (action - self.action_low) / span - 1
        return np.where(self.action_mask, scaled, action).astype(np.float32)

    def unnormalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [..., A] from [-1, 1] to the dataset's units, within its range, float32."""
        clipped = np.clip(action, -1, 1)
        scaled = (clipped + 1) / 2 * (self.action_high - self.action_low) + self.action_low
        return np.where(self.action_mask, scaled, clipped).astype(np.float32)

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest actions of the data, float32 [A], in its units."""
        low, high = np.full_like(self.action_low, -1), np.ones_like(self.action_high)
        return self.unnormalise_action(low), self.unnormalise_action(high)

    def normalise_state(self, state: np.ndarray) -> np.ndarray:
        """Map states [..., S] to zero mean and unit deviation over the dataset, float32."""
        return ((state - self.state_mean) / self.state_std).astype(np.float32)


def load_statistics(
    directory: Path, dataset: str, states: int, actions: int | None = None
) -> Statistics:
    """
    Read `dataset_statistics.json`: `{dataset: {action: {q01, q99, mask}, state: {mean, std}}}`.

    Args:
        directory: policy directory.
        dataset: key of the statistics.
        states: number of state columns of the policy; 0 where it takes no state.
        actions: number of action columns; None: as many as there are.

    Returns:
        The statistics.

    Raises:
        UserError: names the file and the missing or wrong field.
    """
    path = Path(directory) / STATISTICS_FILE
    return parse_statistics(read_json(path), dataset, states, path, actions)


def parse_statistics(
    data: dict[str, Any], dataset: str, states: int, path: Path, actions: int | None = None
) -> Statistics:
    """
    Check and convert what `load_statistics` has read; importers check with it before they copy.

    Args:
        data: `{dataset: {action: {q01, q99, mask}, state: {mean, std}}}`.
        dataset: key of the statistics.
        states: number of state columns of the policy; 0 where it takes no state.
        path: of the file, for messages.
        actions: number of action columns; None: as many as there are.

    Raises:
        UserError: names the file, the field and the column that is missing or wrong.
    """
    if not isinstance(data.get(dataset), dict):
        raise UserError(f'{path}: no dataset {shown(dataset)}; it has {names_of(data)}')
    where = f'{path}: {dataset}'
    action = _part(data[dataset], 'action', where)
    low = column_values(action, 'q01', f'{where}: action', actions)
    high = column_values(action, 'q99', f'{where}: action', len(low))
    mask = action.get('mask', [True] * len(low))
    if (
        not isinstance(mask, list)
        or len(mask) != len(low)
        or not all(isinstance(value, bool) for value in mask)
    ):
        raise UserError(
            f'{where}: action.mask is {shown(mask)}, expected {len(low)} times true or false'
        )
    normalised = np.array(mask, bool)
    swapped = np.flatnonzero(normalised & (low > high))
    if len(swapped):
        column = int(swapped[0])
        raise UserError(
            f'{where}: action.q01 is above q99 in column {column} ({low[column]:g} and '
            f'{high[column]:g}); expected the 1st and the 99th percentile'
        )
    if all(action.get(field) is not None for field in ('min', 'max')):
        ends = {
            field: column_values(action, field, f'{where}: action', len(low))
            for field in ('min', 'max')
        }
        check_together(f'{where}: action', ('q01', 'q99'), {**ends, 'q01': low, 'q99': high})
    mean = std = np.zeros(0, np.float32)
    if states:
        state = _part(data[dataset], 'state', where)
        mean, std = (
            column_values(state, field, f'{where}: state', states) for field in ('mean', 'std')
        )
        if not (std >= SMALLEST_STD).all():
            raise UserError(
                f'{where}: state.std is {std.min():g} in column {int(std.argmin())}, expected '
                f'{SMALLEST_STD:g} or more'
            )
    return Statistics(low, high, normalised, mean, std)


def column_values(part: dict[str, Any], field: str, where: str, columns: int | None) -> np.ndarray:
    """
    Read one number a column.

    Args:
        part: of the statistics.
        field: its key, for example 'q01'.
        where: file, dataset and name of the part, for messages.
        columns: how many are expected; None: any number but none.

    Returns:
        float32 [columns].

    Raises:
        UserError: they are missing, of another number, not finite, or above `LARGEST`; the message
            names the first such column.
    """
    values = part.get(field)
    if not isinstance(values, list) or not values or len(values) != (columns or len(values)):
        found = f'{len(values)} values' if isinstance(values, list) else 'missing'
        raise UserError(
            f'{where}.{field}: {found}, expected '
            f'{f"{columns} numbers" if columns else "one number a column"}'
        )
    for column, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= LARGEST:
            raise UserError(
                f'{where}.{field} is {shown(value)} in column {column}, expected a finite number '
                f'of at most {LARGEST:g}'
            )
    return np.array(values, np.float32)


def _part(statistics: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    part = statistics.get(name)
    if not isinstance(part, dict):
        raise UserError(f'{where}: {name} is missing; expected its statistics')
    return part
