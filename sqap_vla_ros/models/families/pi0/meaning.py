"""What the columns of a pi0 checkpoint mean, and which actions are offsets from the state."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from sqap_vla_ros.columns import Column, DISPLACEMENT, POSITION
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.families.pi0.formats import Format
from sqap_vla_ros.models.importers.meaning import (
    Convention,
    data_range,
    DataRange,
    find_meaning,
    Meaning,
    with_ranges,
)
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.preprocessing.normalisation import Normalisation

_SERVO = '.pos'
"""Ends the name of a joint position in lerobot's datasets."""


def find_pi0_meaning(folder: Path, form: Format, options: ImportOptions) -> Meaning:
    """
    Find out what the columns mean.

    Args:
        folder: of the checkpoint, for messages.
        form: what the folder says.
        options: what the user says.

    Returns:
        The meaning, with the range of the training data; `relative` is empty where no action is
        an offset.

    Raises:
        UserError: nobody says it; user and folder contradict each other; a relative position has
            another unit or joint than the state column that it is added to.
    """
    counts = form.state.columns, form.action.columns
    convention = Convention(_usual_names(form.action_names))
    meaning = find_meaning(form.dataset, counts, options, 'pi0', convention)
    _check_names(folder, form.action_names, meaning.action)
    relative = _relative(folder, form, options, meaning)
    scale = np.array(meaning.action_scale or [1.0] * counts[1])
    for index, on in enumerate(relative):
        if on:
            _check_column(folder, index, meaning, scale)
    where = f'{folder}: dataset {form.dataset!r}'
    state, action = _range(form.state, np.ones(counts[0])), _range(form.action, scale)
    if action is not None and any(relative):  # what leaves the policy is absolute
        action = _absolute(action, state, np.array(relative) * scale)
    return replace(
        meaning,
        state=meaning.state
        if state is None
        else with_ranges(meaning.state, state, f'{where}: state'),
        action=meaning.action
        if action is None
        else with_ranges(meaning.action, action, f'{where}: action'),
        relative=relative,
    )


def _range(normalisation: Normalisation, scale: np.ndarray) -> DataRange | None:
    """Return the range of the training data; None: without normalisation none may be stored."""
    return data_range(normalisation.statistics, scale, normalisation.mode)


def _absolute(offsets: DataRange, state: DataRange | None, factor: np.ndarray) -> DataRange | None:
    """Add the range of the state, times a factor [actions], to that of offsets."""
    if state is None:
        return None
    origin = (end[: len(factor)] * factor for end in (state.low, state.high))
    return DataRange(offsets.low + next(origin), offsets.high + next(origin), offsets.margin)


def _usual_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names of lerobot's joints the form that this package has; empty: not such."""
    if not names or not all(name.endswith(_SERVO) for name in names):
        return ()
    bare = [name.removesuffix(_SERVO) for name in names]
    return tuple(name if name == 'gripper' else f'joint_position.{name}' for name in bare)


def _check_names(folder: Path, stored: tuple[str, ...], action: tuple[Column, ...]) -> None:
    """Refuse columns in another order than the names in the folder."""
    known = [name.removesuffix(_SERVO) for name in stored]
    for index, column in enumerate(action[: len(known)]):
        name = column.joint or column.name
        if name in known and known.index(name) != index:
            raise UserError(
                f'{folder}: action column {index} is {column.name}, but the training data had '
                f'{stored[index]} there: {", ".join(stored)}'
            )


def _relative(
    folder: Path, form: Format, options: ImportOptions, meaning: Meaning
) -> tuple[bool, ...]:
    names = [column.name for column in meaning.action]
    said = [] if form.relative is None else [(f"{folder}: lerobot's pipelines", form.relative)]
    if options.relative_actions is not None:
        unknown = [name for name in options.relative_actions if name not in names]
        if unknown:
            raise UserError(
                f'--relative-actions: {unknown[0]} is no action column; there are '
                f'{", ".join(names)}'
            )
        mask = tuple(name in options.relative_actions for name in names)
        said.append(('--relative-actions', mask))
    if any(meaning.relative):
        where = 'the columns' if meaning.dataset is None else meaning.dataset.where
        said.append((where, meaning.relative))
    if not said:
        open_columns = [
            column.name
            for column in meaning.action
            if column.quantity == POSITION
            or (column.quantity == DISPLACEMENT and column.joint is None)
        ]
        if open_columns:
            raise UserError(
                f'{folder}: openpi does not store whether {open_columns[0]} is predicted as it is '
                'or minus the state (DeltaActions, extra_delta_transform in its training '
                'configuration); give --relative-actions NAME,... or --no-relative-actions'
            )
        return ()
    masks = [mask or (False,) * len(names) for _, mask in said]
    for (where, _), mask in zip(said, masks):
        if mask != masks[0]:
            raise UserError(
                f'{said[0][0]}: offsets from the state are {_named(names, masks[0])}, but '
                f'{where}: {_named(names, mask)}; expected the same'
            )
    return masks[0] if any(masks[0]) else ()


def _named(names: list[str], mask: tuple[bool, ...]) -> str:
    return ', '.join(name for name, on in zip(names, mask) if on) or 'none'


def _check_column(folder: Path, index: int, meaning: Meaning, scale: np.ndarray) -> None:
    action = meaning.action[index]
    if index >= len(meaning.state):
        raise UserError(
            f'{folder}: action {action.name} (column {index}) is an offset from a state column '
            f'that does not exist; the state has {len(meaning.state)}'
        )
    state = meaning.state[index]
    if action.quantity != POSITION:
        return  # the number of the state is added to that of the action, whatever they mean
    if (action.unit, 1.0) != (state.unit, scale[index]):
        raise UserError(
            f'{folder}: action {action.name} is an offset from state {state.name}, but its unit '
            f'is {action.unit} (scale {scale[index]:g}) and that of the state {state.unit}; both '
            'had one unit in the training data'
        )
    if None not in (action.joint, state.joint) and action.joint != state.joint:
        raise UserError(
            f'{folder}: action {action.name} is an offset from state {state.name} (column '
            f'{index} of both), which is another joint'
        )
