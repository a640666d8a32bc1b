"""Which actions of a pi0 checkpoint are offsets from the state at the observation."""

from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.released import ImportOptions

_ACTION, _STATE = 'joint_position.', 'joint.'


def relative_actions(
    path: Path,
    stored: tuple[bool, ...] | None,
    options: ImportOptions,
    state_names: tuple[str, ...],
    state_units: tuple[str, ...],
    action_names: tuple[str, ...],
    action_units: tuple[str, ...],
) -> tuple[bool, ...]:
    """
    Decide which columns are relative, from the folder or from the user.

    Args:
        path: of `config.json`, for messages.
        stored: what the folder says; None: nothing.
        options: what the user says.
        state_names: of the state columns.
        state_units: of the state columns.
        action_names: of the action columns.
        action_units: of the action columns.

    Returns:
        One value an action column; empty where none is relative.

    Raises:
        UserError: nobody says it, user and folder contradict each other, or a relative column has
            another unit or joint than the state column that it is added to.
    """
    wanted = options.relative_actions
    if wanted is not None:
        unknown = [name for name in wanted if name not in action_names]
        if unknown:
            raise UserError(
                f'--relative-actions: {unknown[0]} is no action column; there are '
                f'{", ".join(action_names)}'
            )
        given = tuple(name in wanted for name in action_names)
        if stored is not None and given != (stored or (False,) * len(action_names)):
            named = [n for n, on in zip(action_names, stored) if on] if stored else []
            raise UserError(
                f'{path.parent}: its pipelines say that the relative actions are: '
                f'{", ".join(named) or "none"}; leave --relative-actions out'
            )
        stored = given
    if stored is None:
        joints = [name for name in action_names if name.startswith(_ACTION)]
        if joints:
            raise UserError(
                f"{path.parent}: openpi's files do not say whether {joints[0]} is a position or "
                'an offset from the state (DeltaActions in its data configuration); give '
                '--relative-actions NAME,... or --no-relative-actions'
            )
        return ()
    if not any(stored):
        return ()
    for index, relative in enumerate(stored):
        if relative:
            _check_column(path, index, state_names, state_units, action_names, action_units)
    return stored


def _check_column(path, index, state_names, state_units, action_names, action_units):
    action = action_names[index]
    if index >= len(state_names):
        raise UserError(
            f'{path.parent}: action {action} (column {index}) is relative to a state column that '
            f'does not exist; the state has {len(state_names)}'
        )
    state = state_names[index]
    if action_units[index] != state_units[index]:
        raise UserError(
            f'{path.parent}: action {action} is an offset from state {state}, but its unit is '
            f"{action_units[index]} and the state's {state_units[index]}; give both in the unit "
            'of the training data'
        )
    joints = action.removeprefix(_ACTION), state.removeprefix(_STATE)
    if action.startswith(_ACTION) and state.startswith(_STATE) and joints[0] != joints[1]:
        raise UserError(
            f'{path.parent}: action {action} is an offset from state {state} (column {index} of '
            'both), which is another joint'
        )
