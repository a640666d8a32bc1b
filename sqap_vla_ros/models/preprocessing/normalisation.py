"""How the columns of a state or of an action are normalised, as the training library does it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sqap_vla_ros.errors import UserError

FIELDS: dict[str, tuple[str, ...]] = {
    'IDENTITY': (),
    'MEAN_STD': ('mean', 'std'),
    'MIN_MAX': ('min', 'max'),
    'QUANTILES': ('q01', 'q99'),
    'QUANTILE10': ('q10', 'q90'),
}
"""The modes, and the two statistics that each reads."""
ENDS = ('q01', 'q99'), ('min', 'max'), ('q10', 'q90')
"""Pairs of statistics that are the ends of a range, in the order in which they are preferred."""
OPENPI, LEROBOT = 'openpi', 'lerobot'
IDENTITY_REACH = 3.0
"""Columns that are not normalised and have no statistics are taken to reach this far from 0."""
LARGEST = 1e9
"""Of a statistic, in any unit; what is above it is damaged, and would command or hide anything."""


@dataclass(frozen=True)
class Normalisation:
    """
    Converts columns between the dataset's units and the model's.

    Arithmetic is in float32, in the order of the library. Where a column never moved in the data
    (standard deviation 0, or both ends equal) the result is the library's too: a state that
    differs from the data by d becomes about d / epsilon.
    """

    mode: str
    """A key of `FIELDS`."""
    library: str
    """'openpi' adds epsilon to every divisor, in both directions; 'lerobot' adds it to the
    standard deviation when it normalises, not when it unnormalises, and replaces a range of 0."""
    epsilon: float
    columns: int
    statistics: Mapping[str, np.ndarray]
    """Every statistic that is known, float32 [columns]: those of `FIELDS[mode]` and more."""

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """Map values [..., columns] in the dataset's units to the model's, float32."""
        values = np.asarray(values, np.float32)
        if self.mode == 'IDENTITY':
            return values
        first, divisor = self._first(), self._divisor(inverse=False)
        if self.mode == 'MEAN_STD':
            return (values - first) / divisor
        return np.float32(2) * (values - first) / divisor - np.float32(1)

    def unnormalise(self, values: np.ndarray) -> np.ndarray:
        """Map values [..., columns] of the model to the dataset's units, float32."""
        values = np.asarray(values, np.float32)
        if self.mode == 'IDENTITY':
            return values
        first, factor = self._first(), self._divisor(inverse=True)
        if self.mode == 'MEAN_STD':
            return values * factor + first
        return (values + np.float32(1)) * factor / np.float32(2) + first

    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the range of the training data, float32 [columns], in the dataset's units.

        See `training_range`; without statistics it reaches `IDENTITY_REACH` from 0.
        """
        found = training_range(self.statistics, self.mode)
        if found is not None:
            return found[0].astype(np.float32), found[1].astype(np.float32)
        reach = np.full(self.columns, IDENTITY_REACH, np.float32)
        return -reach, reach

    def centre(self) -> np.ndarray:
        """Return the mean of the training data, or the middle of its range, float32 [columns]."""
        if 'mean' in self.statistics:
            return self.statistics['mean']
        low, high = self.range()
        return (low + high) / 2

    def constant(self) -> np.ndarray:
        """Which columns never moved in the data, as the mode measures it, bool [columns]."""
        if self.mode == 'IDENTITY':
            return np.zeros(self.columns, bool)
        first, second = (self.statistics[field] for field in FIELDS[self.mode])
        return second == (0 if self.mode == 'MEAN_STD' else first)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `read_normalisation` reads."""
        return {
            'mode': self.mode,
            'library': self.library,
            'epsilon': self.epsilon,
            'columns': self.columns,
            **{name: np.asarray(v, float).tolist() for name, v in self.statistics.items()},
        }

    def _first(self) -> np.ndarray:
        return self.statistics[FIELDS[self.mode][0]]

    def _divisor(self, inverse: bool) -> np.ndarray:
        epsilon = np.float32(self.epsilon)
        first, second = (self.statistics[field] for field in FIELDS[self.mode])
        if self.mode == 'MEAN_STD':
            return second if inverse and self.library == LEROBOT else second + epsilon
        span = second - first
        return span + epsilon if self.library == OPENPI else np.where(span == 0, epsilon, span)


def training_range(
    statistics: Mapping[str, Any], mode: str = 'IDENTITY'
) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """
    Find the range of the training data in its statistics.

    Args:
        statistics: statistic to one number a column; others may be missing or None.
        mode: how the columns are normalised; the two ends that it uses are preferred.

    Returns:
        Low and high, float64 [columns], and whether they are ends of the data: else they are three
        deviations from the mean. None if no pair of statistics is there.
    """
    own = tuple(pair for pair in ENDS if pair == FIELDS[mode])
    for pair in (*own, *ENDS, FIELDS['MEAN_STD']):
        if all(statistics.get(field) is not None for field in pair):
            first, second = (np.array(statistics[field], np.float64) for field in pair)
            if pair in ENDS:
                return first, second, True
            return first - 3 * second, first + 3 * second, False
    return None


def make_normalisation(
    where: str,
    found: Mapping[str, Any],
    columns: int | None,
    mode: str,
    library: str,
    epsilon: float,
) -> Normalisation:
    """
    Check statistics.

    Args:
        where: file and feature, for messages: 'FILE: action'.
        found: statistic to its values; other entries are left out.
        columns: number of values; None: as many as the statistics of the mode have.
        mode: how the columns are normalised.
        library: whose arithmetic is used.
        epsilon: see `Normalisation.library`.

    Raises:
        UserError: names the statistic that is missing, of wrong length, not finite, negative where
            it is a deviation, or the ends that are swapped.
    """
    if mode not in FIELDS or library not in (OPENPI, LEROBOT):
        raise UserError(
            f'{where}: normalisation mode {mode!r} of library {library!r}, expected one of '
            f'{", ".join(FIELDS)} of {OPENPI} or {LEROBOT}'
        )
    if not (_is_number(epsilon) and 0 < epsilon < 1):
        raise UserError(f'{where}: epsilon is {epsilon!r}, expected a number between 0 and 1')
    missing = [field for field in FIELDS[mode] if found.get(field) is None]
    if missing:
        raise UserError(f'{where}.{missing[0]} is missing, which the mode {mode} needs')
    statistics: dict[str, np.ndarray] = {}
    for field in ('mean', 'std', *(name for pair in ENDS for name in pair)):
        if found.get(field) is None:
            continue
        try:
            with np.errstate(over='ignore'):  # becomes infinite, which is refused below
                values = np.array(found[field], np.float64).astype(np.float32)
        except (TypeError, ValueError, OverflowError):
            values = None
        if values is None or values.ndim != 1:
            if field in FIELDS[mode]:
                raise UserError(f'{where}.{field} is not a list of numbers') from None
            continue  # of an unused statistic, nothing is required
        if columns is None and field in FIELDS[mode]:
            columns = len(values)
        statistics[field] = values
    if not columns:
        raise UserError(f'{where}: has no column; expected statistics or the number of columns')
    for field in FIELDS[mode]:
        _check(where, field, statistics[field], columns)
    kept = {
        field: values
        for field, values in statistics.items()
        if values.shape == (columns,) and np.isfinite(values).all()
    }
    if len(FIELDS[mode]) == 2 and mode != 'MEAN_STD':
        low, high = FIELDS[mode]
        swapped = np.flatnonzero(kept[high] < kept[low])
        if len(swapped):
            raise UserError(
                f'{where}: {low} is above {high} in column {swapped[0]}; the two are swapped or '
                'damaged'
            )
    check_together(where, FIELDS[mode], kept)
    return Normalisation(mode, library, float(epsilon), columns, kept)


def read_normalisation(where: str, entry: object, columns: int, library: str) -> Normalisation:
    """
    Read one part of `dataset_statistics.json`.

    Args:
        where: file, dataset and part, for messages.
        entry: `{mode, library, epsilon, columns, ...statistics}`; without all of the four,
            `{mean, std}` as openpi uses them.
        columns: of the policy.
        library: of the policy.

    Raises:
        UserError: one of the four is missing or contradicts the policy; else as for
            `make_normalisation`.
    """
    if not isinstance(entry, dict):
        raise UserError(f'{where} is missing; expected an object with statistics')
    fields = ('mode', 'library', 'epsilon', 'columns')
    missing = [field for field in fields if field not in entry]
    if missing and (len(missing) < len(fields) or library != OPENPI):
        raise UserError(f'{where}.{missing[0]} is missing; import the policy again')
    for field, value in (('library', library), ('columns', columns)):
        if entry.get(field, value) != value:
            raise UserError(f'{where}.{field} is {entry[field]!r:.40}, but the policy has {value}')
    return make_normalisation(
        where,
        entry,
        columns,
        entry.get('mode', 'MEAN_STD'),
        entry.get('library', OPENPI),
        entry.get('epsilon', 1e-6),
    )


def _check(where: str, field: str, values: np.ndarray, columns: int) -> None:
    if values.shape != (columns,):
        raise UserError(f'{where}.{field} has {len(values)} values, expected {columns}')
    bad = np.flatnonzero(~(np.abs(values) <= LARGEST))
    if len(bad):
        raise UserError(
            f'{where}.{field} is {values[bad[0]]} in column {bad[0]}, expected finite numbers of '
            f'at most {LARGEST:g}'
        )
    if field == 'std' and (values < 0).any():
        column = int(np.flatnonzero(values < 0)[0])
        raise UserError(
            f'{where}.std is {values[column]:.4g} in column {column}, expected 0 or more'
        )


def check_together(where: str, used: Collection[str], kept: Mapping[str, np.ndarray]) -> None:
    """
    Refuse statistics that cannot be of the same data, because one of them is in other units.

    Args:
        where: file and feature, for messages.
        used: names of the statistics that are compared with 'min' and 'max'.
        kept: statistic to finite values, float [columns]; without 'min' and 'max' nothing is told.

    Raises:
        UserError: names the statistic and the column.
    """
    if not {'min', 'max'} <= set(kept):
        return
    low, high = (kept[field].astype(np.float64) for field in ('min', 'max'))
    if (low > high).any():
        return  # not used; told where it is
    slack = 0.05 * (high - low) + 1e-3 * np.maximum(1, np.maximum(abs(low), abs(high)))
    for field in used:
        values = kept[field].astype(np.float64)
        wrong = (values < low - slack) | (values > high + slack)
        what = 'outside min .. max'
        if field == 'std':  # of any data, half of it at most; estimates may be a little larger
            wrong, what = values > high - low + slack, 'more than the whole of min .. max'
        if wrong.any():
            column = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f'{where}.{field} is {values[column]:.4g} in column {column}, {what} '
                f'({low[column]:.4g} .. {high[column]:.4g}); they are not of the same data'
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
