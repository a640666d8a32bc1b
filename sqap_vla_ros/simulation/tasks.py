"""
The tasks: scene, instructions, success, and a scripted expert each.

Experts depend only on the true state of the simulator, so that they can label any state that a
learned policy reaches. Base frame, metres, m/s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sqap_vla_ros.simulation.scenes import ButtonPanel, PANEL_TOP_M, PANEL_TRAVEL_M, SCENES

EXPERT_SPEED_M_S = 0.22
GAIN_PER_S = 5.0
PRESSED_M = 0.6 * PANEL_TRAVEL_M


@dataclass(frozen=True)
class Task:
    """A task in a scene."""

    name: str
    scene: str
    instructions: tuple[str, ...]
    """Instructions of the same meaning; the first is used in tables and demonstrations."""
    gripper_closed: bool
    expert: Callable[[Any], np.ndarray]
    """Velocity [3] of a careful operator in the present state, m/s."""
    target: Callable[[Any], np.ndarray]
    """Position [3] that the hand goes to, metres; used in training."""
    succeeded: Callable[[Any], bool]
    failed: Callable[[Any], bool] = lambda arm: False
    """Whether the task can no longer succeed."""


def expert_action(arm: Any) -> np.ndarray:
    """Return the expert's action [4]: velocity in m/s, gripper 0 open .. 1 closed."""
    velocity = arm.task.expert(arm)
    speed = float(np.linalg.norm(velocity))
    velocity = velocity * min(1.0, EXPERT_SPEED_M_S / max(speed, 1e-9))
    return np.array([*velocity, 1.0 if arm.task.gripper_closed else 0.0])


def _press_from_above(arm, top_m, depth_m):
    """Hover, and descend as the horizontal error shrinks: a funnel without discrete phases."""
    position = arm.end_effector_m
    error = top_m - position
    distance = np.linalg.norm(error[:2])
    hover = np.clip((distance - 0.012) / 0.04, 0.0, 1.0)
    error[2] += hover * 0.06 - (1 - hover) * depth_m
    velocity = GAIN_PER_S * error
    if error[2] > 0.02:
        velocity[:2] *= 0.3  # rise before moving on: another button may be on the way
    return velocity


def _panel_target(arm, colour):
    return arm.data.body(f'{colour}_button').xpos + np.array([0, 0, PANEL_TOP_M])


def _pressed_m(arm, colour):
    return -arm.data.joint(f'{colour}_joint').qpos[0]


def _button_task(colour, scene, prefix='', size=''):
    others = [other for other in cast(type[ButtonPanel], SCENES[scene]).colours if other != colour]
    return Task(
        name=f'{prefix}{colour}',
        scene=scene,
        instructions=(
            f'press the {size}{colour} button',
            f'push the {size}{colour} button down',
            f'push down the {size}{colour} one',
        ),
        gripper_closed=True,
        target=lambda arm: _panel_target(arm, colour),
        expert=lambda arm: _press_from_above(
            arm, _panel_target(arm, colour), PANEL_TRAVEL_M + 0.015
        ),
        succeeded=lambda arm: _pressed_m(arm, colour) > PRESSED_M,
        failed=lambda arm: any(_pressed_m(arm, other) > PRESSED_M for other in others),
    )


def _yellow_box_target(arm):
    # The cap's rest height is 0.1935 m above the box frame (Meta-World's `buttonStart` site).
    pressed = arm.data.joint('btnbox_joint').qpos[0]
    return arm.data.body('box').xpos + np.array([0, 0, 0.1935 + pressed])


def _drawer_target(arm):
    return arm.data.body('drawer_link').xpos + np.array([0.0, -0.135, -0.005])


def _drawer_expert(arm):
    error = _drawer_target(arm) - arm.end_effector_m
    if (np.linalg.norm(error[:2]) > 0.025 and error[2] < -0.02) or np.linalg.norm(
        error[:2]
    ) > 0.05:
        return GAIN_PER_S * (
            error + np.array([0, 0, 0.09])
        )  # above the gap between handle and front
    if error[2] < -0.012:
        return GAIN_PER_S * error
    return np.array([GAIN_PER_S * error[0], -0.2, GAIN_PER_S * error[2]])


def _coffee_target(arm):
    return arm.data.body('coffee_machine').xpos + np.array([0.0, -0.22, 0.3])


def _coffee_expert(arm):
    error = _coffee_target(arm) - arm.end_effector_m
    aside = np.linalg.norm(error[[0, 2]])
    stand_off = np.clip((aside - 0.012) / 0.03, 0.0, 1.0)
    error[1] += -0.06 * stand_off + 0.06 * (1 - stand_off)
    return GAIN_PER_S * error


TASKS = {
    task.name: task
    for task in (
        *(_button_task(colour, 'button_panel', 'press_') for colour in ('red', 'green', 'blue')),
        Task(
            name='press_box',
            scene='yellow_box',
            instructions=(
                'press the stop button on the yellow box',
                'push the knob on the box down',
                'hit the stop button',
            ),
            gripper_closed=True,
            target=_yellow_box_target,
            expert=lambda arm: _press_from_above(arm, _yellow_box_target(arm), 0.05),
            succeeded=lambda arm: -arm.data.joint('btnbox_joint').qpos[0] > 0.035,
        ),
        Task(
            name='open_drawer',
            scene='drawer',
            instructions=('open the drawer', 'pull the drawer open', 'pull out the green drawer'),
            gripper_closed=True,
            target=_drawer_target,
            expert=_drawer_expert,
            succeeded=lambda arm: -arm.data.joint('goal_slidey').qpos[0] > 0.13,
        ),
        Task(
            name='press_coffee',
            scene='coffee_machine',
            instructions=(
                'press the button on the coffee machine',
                'start the coffee machine',
                'make a coffee',
            ),
            gripper_closed=True,
            target=_coffee_target,
            expert=_coffee_expert,
            succeeded=lambda arm: arm.data.joint('goal_slidey').qpos[0] > 0.02,
        ),
        *(
            _button_task(colour, 'small_buttons', 'press_small_', 'small ')
            for colour in ('red', 'green', 'blue', 'yellow')
        ),
    )
}

DATASETS = {
    'sqap_vla_sim': (
        'press_red',
        'press_green',
        'press_blue',
        'press_box',
        'open_drawer',
        'press_coffee',
    ),
    'sqap_vla_sim_small_objects': (
        'press_small_red',
        'press_small_green',
        'press_small_blue',
        'press_small_yellow',
        'press_box',
        'open_drawer',
    ),
}
"""Data set to its tasks; a policy names its data set in `dataset`."""
