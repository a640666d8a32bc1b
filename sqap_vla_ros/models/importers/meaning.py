"""The meaning of a checkpoint's columns: from the user, a known dataset, or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.columns import (
    check_state_column,
    Column,
    columns_from_units,
    names_and_units,
    OFFSET,
    POSITION,
)
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.datasets import (
    Dataset,
    dataset_for,
    known_datasets,
    LONGEST_S,
    SHORTEST_S,
)
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.preprocessing.normalisation import training_range

_MARGIN = 0.5
"""Share of a gripper's travel by which the data's quantiles may exceed its ends."""
_DEVIATION_MARGIN = 5.0
"""The same for the mean and its deviations, which say less."""


@dataclass(frozen=True)
class Convention:
    """What all checkpoints of a family share, whatever they were trained on."""

    action_names: tuple[str, ...] = ()
    """Names of the action columns; empty: the user gives them."""
    gripper: tuple[float, float] = (0.0, 1.0)
    """Value of an open and of a closed gripper of unit '1'."""


@dataclass(frozen=True)
class Meaning:
    """What the columns of a checkpoint mean."""

    state: tuple[Column, ...]
    action: tuple[Column, ...]
    """Without offsets: `relative` says which columns the model gives as offsets."""
    action_scale: tuple[float, ...]
    """Factor from each number of the dataset to the unit of its column; empty: 1."""
    relative: tuple[bool, ...]
    """Which action columns are offsets from the state of the observation."""
    step_s: float
    dataset: Dataset | None = None
    """The dataset or file that says so; None: the options do."""

    def config_fields(self) -> dict[str, Any]:
        """Return the fields of a configuration that every family has."""
        return {
            'action': self.action,
            'action_scale': self.action_scale,
            'step_s': self.step_s,
        }


def find_meaning(
    key: str,
    counts: tuple[int, int],
    options: ImportOptions,
    family: str,
    convention: Convention = Convention(),
) -> Meaning:
    """
    Find out what the columns of a checkpoint mean.

    The user's `columns` come first, then names and units that the user gives, then the known
    datasets. Names and units beside one of the others must agree with it.

    Args:
        key: of the dataset's statistics in the checkpoint.
        counts: number of state and of action columns; 0 states: the family has no state.
        options: what the user said.
        family: `model_type` of the checkpoint.
        convention: what the checkpoints of the family share.

    Raises:
        UserError: nobody said it, or what was said contradicts the checkpoint or itself.
    """
    dataset = dataset_for(options.columns, key, family)
    if not options.columns and dataset is not None and len(dataset.action) != counts[1]:
        dataset = None  # another dataset of this name
    if dataset is None:
        state = _named('state', counts[0], options.state_names, options.state_units, key)
        names = options.action_names or convention.action_names
        action = _named('action', counts[1], names, options.action_units, key)
        action = tuple(
            replace(column, opened=convention.gripper[0], closed=convention.gripper[1])
            if column.is_gripper and column.unit == '1'
            else column
            for column in action
        )
        scale: tuple[float, ...] = ()
    else:
        if dataset.families and family not in dataset.families:
            raise UserError(
                f'{dataset.where}: is for checkpoints of {", ".join(dataset.families)} (family), '
                f'not of {family}'
            )
        if dataset.crop_area is not None and family != 'openvla' and not dataset.families:
            raise UserError(
                f'{dataset.where}: image.crop_area means nothing for a checkpoint of {family}, '
                'which does not crop; leave it out'
            )
        state, action, scale = dataset.state, dataset.action, dataset.action_scale
        if not counts[0]:
            state = ()
        _check_counts(dataset, (len(state), len(action)), counts)
        _check_given('state', state, options.state_names, options.state_units, dataset)
        _check_given('action', action, options.action_names, options.action_units, dataset)
    step_s = options.step_s
    if step_s is None and dataset is not None:
        step_s = dataset.step_s
    if step_s is None:
        raise UserError(
            f'dataset {key!r}: the time between its actions is not known; give it with --step-s'
        )
    if not SHORTEST_S <= step_s <= LONGEST_S:
        raise UserError(
            f'--step-s is {step_s:g}, expected {SHORTEST_S:g} .. {LONGEST_S:g} (seconds)'
        )
    relative = tuple(column.quantity == OFFSET for column in action)
    action = tuple(
        replace(column, quantity=POSITION) if column.quantity == OFFSET else column
        for column in action
    )
    try:
        SiActions(ActionSpec.of(action, step_s, 1))
        for column in state:
            check_state_column(column)
    except (UserError, ValueError) as error:
        raise UserError(f'dataset {key!r}: {error}') from None
    scale = () if all(factor == 1 for factor in scale) else scale
    return Meaning(state, action, scale, relative, step_s, dataset)


@dataclass(frozen=True)
class DataRange:
    """Range of the training data; float64 [columns] each."""

    low: np.ndarray
    high: np.ndarray
    margin: float
    """Share of a gripper's travel by which the range may exceed the gripper's ends."""


def data_range(
    statistics: Mapping[str, Any], scale: np.ndarray | float = 1.0, mode: str = 'IDENTITY'
) -> DataRange | None:
    """
    Read the range of the training data off its statistics.

    Args:
        statistics: one number a column for each; see `training_range`.
        scale: factor from each number of the dataset to the unit of its column.
        mode: how the columns are normalised.

    Returns:
        The range; None if the statistics have none.
    """
    found = training_range(statistics, mode)
    if found is None:
        return None
    low, high, ends = found
    return DataRange(low * scale, high * scale, _MARGIN if ends else _DEVIATION_MARGIN)


def with_ranges(columns: Sequence[Column], found: DataRange, where: object) -> tuple[Column, ...]:
    """
    Add the range of the training data to columns.

    Args:
        columns: the columns.
        found: what `data_range` returns, in the units of the columns.
        where: file of the statistics, for messages.

    Raises:
        UserError: a gripper's data lie far outside what its open and closed values allow.
    """
    ranged = []
    for index, column in enumerate(columns):
        ends = sorted((float(found.low[index]), float(found.high[index])))
        if column.opened is not None and column.closed is not None:
            closures = sorted(map(column.closure, ends))
            if closures[0] < -found.margin or closures[1] > 1 + found.margin:
                raise UserError(
                    f'{where}: {column.name} is {ends[0]:.4g} .. {ends[1]:.4g} in the training '
                    f'data, but is said to be {column.opened:g} (open) .. {column.closed:g} '
                    '(closed); say what it means with --columns FILE.yaml'
                )
        ranged.append(replace(column, low=ends[0], high=ends[1]))
    return tuple(ranged)


def _named(
    part: str, count: int, names: tuple[str, ...], units: tuple[str, ...], key: str
) -> tuple[Column, ...]:
    if not count:
        return ()
    if not names or not units:
        missing = f'--{part}-names and --{part}-units' if not names else f'--{part}-units'
        raise UserError(
            f'dataset {key!r}: what its {count} {part} columns mean is not known; give --columns '
            f'with a file or one of {", ".join(d.name for d in known_datasets())}, or {missing}'
        )
    for what, given in (('names', names), ('units', units)):
        if len(given) != count:
            raise UserError(
                f'--{part}-{what} has {len(given)} values, but dataset {key!r} has {count} '
                f'{part} columns'
            )
    try:
        columns = columns_from_units(names, units)
    except ValueError as error:
        raise UserError(f'--{part}-units: {error}') from None
    for column in columns:
        if not column.quantity:
            remedy = (
                'say which of its values is open with --columns FILE.yaml'
                if column.is_gripper
                else 'name and unit do not say what it is; use --columns FILE.yaml'
            )
            raise UserError(f'--{part}-names: {column.name!r} in {column.unit!r}: {remedy}')
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f'--{part}-names: {repeated[0]!r} is there more than once')
    return columns


def _check_counts(dataset: Dataset, described: tuple[int, int], counts: tuple[int, int]) -> None:
    for part, here, there in zip(('state', 'action'), described, counts):
        if here != there:
            raise UserError(
                f'{dataset.where}: describes {here} {part} columns, but the checkpoint has {there}'
            )


def _check_given(
    part: str,
    columns: tuple[Column, ...],
    names: tuple[str, ...],
    units: tuple[str, ...],
    dataset: Dataset,
) -> None:
    for what, given, ours in zip(('names', 'units'), (names, units), names_and_units(columns)):
        if given and given != ours:
            raise UserError(
                f'--{part}-{what} says {",".join(given)}, but {dataset.where} says '
                f'{",".join(ours)}; leave one of them out, or say what the columns mean with '
                '--columns FILE.yaml'
            )
