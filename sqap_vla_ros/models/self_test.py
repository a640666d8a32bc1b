"""
Does a loaded policy behave like one at all? Cheap checks that catch the usual silent failures.

A vision-language-action model whose image never reaches the decoder, or whose prompt is cut,
still gives plausible actions (openvla/openvla issue 346 is a case): so the image and the
instruction are changed, and the actions must change too.
"""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.policy import Observation, Policy

INSTRUCTIONS = 'pick up the red cup', 'close the drawer'
RANGE_MARGIN = 0.5
"""Actions may leave the range of the training data by this share of it."""


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str
    passed: bool
    detail: str


def self_test(policy: Policy, reference: Policy | None = None) -> list[Check]:
    """
    Run the checks; six pairs of inferences at most, each from a reset policy.

    reference: the same policy in full precision, to report the action error against.
    """
    black, white = _image(0), _image(255)
    dark = _actions(policy, black, INSTRUCTIONS[0])
    bright = _actions(policy, white, INSTRUCTIONS[0])
    other = _actions(policy, black, INSTRUCTIONS[1])
    finite = all(np.isfinite(actions).all() for actions in (dark, bright, other))
    checks = [
        Check(
            'finite',
            finite,
            'all actions are finite numbers'
            if finite
            else 'some actions are not finite: the weights are damaged or overflow',
        )
    ]
    if not finite:
        return checks
    low, high = policy.action_bounds()
    span = np.where(high > low, high - low, 1)
    checks += [
        _differs('image', 'a black and a white image', (bright - dark) / span),
        _differs(
            'instruction', f'"{INSTRUCTIONS[0]}" and "{INSTRUCTIONS[1]}"', (other - dark) / span
        ),
        _in_range(np.concatenate([dark, bright, other]), low, high, span),
    ]
    if reference is not None:
        error = np.mean(
            [
                np.abs(actions - _actions(reference, image, instruction)) / span
                for actions, image, instruction in (
                    (dark, black, INSTRUCTIONS[0]),
                    (bright, white, INSTRUCTIONS[0]),
                    (other, black, INSTRUCTIONS[1]),
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


def _image(level):
    return np.full((240, 320, 3), level, np.uint8)


def _actions(policy, image, instruction):
    """float32 [horizon, actions]; the same noise each time."""
    policy.reset()
    observation = Observation(
        dict.fromkeys(policy.spec.cameras, image), instruction, policy.typical_state()
    )
    policy.predict(observation)  # a pruner that goes by earlier steps prunes from the second on
    return policy.predict(observation).chunk.values


def _differs(name, what, difference):
    largest = float(np.abs(difference).max())
    return Check(
        name,
        largest > 0,
        f'{what} change the actions by up to {largest:.2%} of their range'
        if largest > 0
        else f'{what} give exactly the same actions',
    )


def _in_range(actions, low, high, span):
    outside = (actions < low - RANGE_MARGIN * span) | (actions > high + RANGE_MARGIN * span)
    share = float(outside.mean())
    return Check(
        'range',
        share < 0.5,
        f'{share:.0%} of the action values are beyond the range of '
        f'the training data by more than {RANGE_MARGIN:.0%}',
    )
