"""
Quick checks of a loaded policy that catch common silent failures.

A vision-language-action model whose image never reaches the decoder, or whose prompt is cut,
still gives plausible actions (for example, openvla/openvla issue 346). The checks therefore change
the image and the instruction, and expect the actions to change too.
"""

from dataclasses import dataclass, replace

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.columns import check_state_column
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.description import describe_meaning
from sqap_vla_ros.models.preprocessing.words import split_words
from sqap_vla_ros.policy import Observation, Policy

INSTRUCTIONS = 'pick up the red cup', 'close the drawer'
BLACK, WHITE = 0, 255
RELATIVE = 'relative_actions'
"""Field of a configuration: which actions are offsets from the state."""
RANGE_MARGIN = 0.5
"""Fraction of the training data's range by which actions may exceed that range."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    passed: bool
    detail: str


def self_test(policy: Policy, reference: Policy | None = None) -> list[Check]:
    """
    Run all checks; at most six pairs of inferences, each from a reset policy.

    Args:
        policy: the policy to check.
        reference: the same policy in full precision; the action error against it is reported.

    Returns:
        The checks in order; only 'finite' if some actions are not finite.
    """
    first, second = instructions_for(policy)
    dark = plain_actions(policy, BLACK, first)
    bright = plain_actions(policy, WHITE, first)
    other = plain_actions(policy, BLACK, second)
    finite = check_finite(dark, bright, other)
    if not finite.passed:
        return [finite]
    low, high = policy.action_bounds()
    span = np.where(high > low, high - low, 1)
    checks = [
        finite,
        check_image(dark, bright, span),
        _differs('instruction', f'"{first}" and "{second}"', (other - dark) / span),
        _in_range(np.concatenate([dark, bright, other]), low, high, span),
    ]
    if reference is not None:
        error = np.mean(
            [
                np.abs(actions - plain_actions(reference, grey, instruction)) / span
                for actions, grey, instruction in (
                    (dark, BLACK, first),
                    (bright, WHITE, first),
                    (other, BLACK, second),
                )
            ]
        )
        checks.append(
            Check(
                'compression',
                bool(np.isfinite(error)),
                f'actions differ from full precision by {error:.2%} of the action '
                'range on average',
            )
        )
    return checks


def check_columns(policy: Policy) -> tuple[Check, list[str]]:
    """
    Check that every column of the state and the actions is described.

    Returns:
        The check, and one line for each column that says how far or how fast it goes.
    """
    spec = policy.spec.action
    columns = [
        replace(column, low=float(low), high=float(high)) if column.low is None else column
        for column, low, high in zip(spec.columns, *policy.action_bounds())
    ]
    if stale := _stale_range(policy):
        return Check('columns', False, stale), []
    try:
        lines = describe_meaning(
            policy.spec.state, ActionSpec.of(columns, spec.step_s, spec.horizon)
        )
    except UserError as error:
        return Check('columns', False, str(error)), []
    try:
        for column in policy.spec.state:
            check_state_column(column)
    except ValueError as error:
        return Check('columns', False, str(error)), lines
    return Check('columns', True, 'quantity, unit and frame of each column are known'), lines


def _stale_range(policy: Policy) -> str:
    """Say which column of `config.json` has another range than the statistics; empty: none."""
    relative = getattr(getattr(getattr(policy, 'model', None), 'config', None), RELATIVE, ())
    low, high = (end.astype(np.float64) for end in policy.action_bounds())
    for index, column in enumerate(policy.spec.action.columns):
        # Absolute positions that are offsets reach as far as the state; a gripper is clipped.
        offset = index < len(relative) and relative[index]
        if column.low is None or column.high is None or column.is_gripper or offset:
            continue
        bounds, stored = (low[index], high[index]), (column.low, column.high)
        if not np.allclose(bounds, stored, rtol=1e-3, atol=1e-5 + 1e-3 * np.ptp(bounds)):
            return (
                f'config.json says that {column.name} is {stored[0]:.4g} .. {stored[1]:.4g} in '
                f'the training data, dataset_statistics.json {bounds[0]:.4g} .. {bounds[1]:.4g}; '
                'one of them was changed: import the policy again'
            )
    return ''


def instructions_for(policy: Policy) -> tuple[str, str]:
    """Return two instructions that mean different things to a policy."""
    known = policy.spec.words
    if not known:
        return INSTRUCTIONS
    first, second = ([w for w in split_words(text) if w in known] for text in INSTRUCTIONS)
    # A policy of few words would take both for the same row of unknown words.
    return INSTRUCTIONS if first != second else (known[0], known[-1])


def plain_observation(
    policy: Policy, grey: int, instruction: str = INSTRUCTIONS[0]
) -> Observation:
    """Make an observation with images of one grey level, 0..255, and the mean state."""
    image = np.full((240, 320, 3), grey, np.uint8)
    cameras = dict.fromkeys(policy.spec.cameras, image)
    return Observation(cameras, instruction, policy.typical_state())


def plain_actions(policy: Policy, grey: int, instruction: str = INSTRUCTIONS[0]) -> np.ndarray:
    """Reset the policy and run it twice; returns float32 [horizon, actions], repeatable."""
    policy.reset()
    observation = plain_observation(policy, grey, instruction)
    policy.predict(observation)  # temporal pruning starts at the second inference
    return policy.predict(observation).chunk.values


def check_finite(*actions: np.ndarray) -> Check:
    """Check that all actions [horizon, actions] are finite numbers."""
    finite = all(np.isfinite(values).all() for values in actions)
    return Check(
        'finite',
        finite,
        'all actions are finite numbers'
        if finite
        else 'some actions are NaN or infinite; the weights are damaged or overflow',
    )


def check_image(dark: np.ndarray, bright: np.ndarray, span: np.ndarray | float = 1.0) -> Check:
    """
    Check that the image changes the actions.

    Args:
        dark: actions for a black image, [horizon, actions].
        bright: actions for a white image.
        span: range of each action, [actions].
    """
    return _differs('image', 'a black and a white image', (bright - dark) / span)


def _differs(name: str, what: str, difference: np.ndarray) -> Check:
    largest = float(np.abs(difference).max())
    return Check(
        name,
        largest > 0,
        f'{what} change the actions by up to {largest:.2%} of their range'
        if largest > 0
        else f'{what} give exactly the same actions',
    )


def _in_range(actions: np.ndarray, low: np.ndarray, high: np.ndarray, span: np.ndarray) -> Check:
    outside = (actions < low - RANGE_MARGIN * span) | (actions > high + RANGE_MARGIN * span)
    share = float(outside.mean())
    return Check(
        'range',
        share < 0.5,
        f'{share:.0%} of the action values are beyond the range of '
        f'the training data by more than {RANGE_MARGIN:.0%}',
    )
