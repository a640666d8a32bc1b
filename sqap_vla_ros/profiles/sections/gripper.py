"""Section `gripper`: how the gripper is measured and commanded."""

import math

from sqap_vla_ros.profiles import ranges
from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.names import plain_name, topic_name
from sqap_vla_ros.profiles.robot_profile import Gripper, GRIPPER_OUTPUTS, GripperOutput

UNITS = {'m': 'length', 'rad': 'angle', '1': 'ratio'}
"""Unit of the gripper's joint to its dimension."""
NARROWEST = 1e-6
"""Between open and closed; less is rounding, and measurements are divided by it."""
POSITION_GOALS = ('gripper_command', 'parallel_gripper_command')
"""Outputs whose values are positions of the gripper's joint."""


def read_gripper(section: Section | None) -> Gripper:
    """Read `gripper`: how it is measured and commanded."""
    if section is None:
        return Gripper()
    joint = section.text('joint', '', check=plain_name)
    unit = section.text('unit', None if joint else '1', tuple(UNITS))
    dimension = UNITS[unit or '1']
    farthest = ranges.MAX_GRIPPER[dimension]
    opened, closed = (
        section.number(
            key, dimension, math.nan if joint else value, bool(joint), low=-farthest, high=farthest
        )
        for key, value in (('open', 0.0), ('closed', 1.0))
    )
    _check_ends(section, opened, closed)
    assumed = section.number('assumed', 'ratio', None, low=0.0, high=1.0)
    if joint and assumed is not None:
        section.problem(
            f'{section.path}: joint measures it and assumed replaces that; leave one of them out',
            section.line_of('assumed'),
        )
    parts = section.sections('outputs')
    outputs = tuple(_gripper_output(part, dimension) for part in parts)
    for part, output in zip(parts, outputs):
        # NaN, for what is missing, is no problem here.
        opposite = (closed - opened) * (output.closed - output.opened) < 0
        if joint and output.kind in POSITION_GOALS and opposite:
            section.problem(
                f'{part.path}: open {output.opened:g} and closed {output.closed:g} are the other '
                f'way round than those of joint {joint!r}, {opened:g} and {closed:g}; the goals '
                'of its action are positions of it',
                part.line_of('open'),
            )
    if any(output.kind in POSITION_GOALS for output in outputs) and 'unit' not in section:
        section.problem(f'{section.name("unit")} is missing: its action takes m or rad')
    section.close()
    return Gripper(joint, opened, closed, outputs, assumed, section.line)


def _gripper_output(section: Section, dimension: str) -> GripperOutput:
    kind = section.text('type', choices=GRIPPER_OUTPUTS) or 'float64'
    action = kind != 'float64'
    topic = section.text('action' if action else 'topic', check=topic_name) or '?'
    if kind not in POSITION_GOALS:  # a topic takes whatever its driver understands
        dimension = 'ratio'
    farthest = ranges.MAX_GRIPPER[dimension]
    opened, closed = (
        section.number(key, dimension, math.nan, True, low=-farthest, high=farthest)
        for key in ('open', 'closed')
    )
    _check_ends(section, opened, closed)
    max_effort, joint = None, ''
    if action:
        max_effort = section.number('max_effort', 'ratio', None, low=0.0, high=ranges.MAX_EFFORT)
    if kind == 'gripper_command' and 'max_effort' not in section:
        section.problem(
            f'{section.name("max_effort")} is missing: every goal carries it, N or Nm, and a '
            'Franka Hand takes it as its grasp force; write 0 only where the controller ignores it'
        )
    if kind == 'parallel_gripper_command':
        joint = section.text('joint', check=plain_name) or '?'
    section.close()
    return GripperOutput(kind, topic, opened, closed, max_effort, joint)


def _check_ends(section: Section, opened: float, closed: float) -> None:
    if abs(opened - closed) < NARROWEST:
        section.problem(
            f'{section.path}: open and closed are the same, {opened:g}', section.line_of('closed')
        )
