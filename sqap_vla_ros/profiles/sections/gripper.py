"""Section `gripper`: how the gripper is measured and commanded."""

from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.robot_profile import Gripper, GRIPPER_OUTPUTS, GripperOutput


def read_gripper(section: Section | None) -> Gripper:
    """Read `gripper`: how it is measured and commanded."""
    if section is None:
        return Gripper()
    joint = section.text('joint', '')
    dimension = {'rad': 'angle', 'm': 'length', '1': 'ratio'}.get(
        section.text('unit', 'm', ('m', 'rad', '1')), 'length'
    )
    opened = section.number('open', dimension, 0.0, required=bool(joint))
    closed = section.number('closed', dimension, 1.0, required=bool(joint))
    if opened == closed:
        section.problem(
            f'{section.path}: open and closed are the same position, {opened:g}',
            section.line_of('closed'),
        )
    assumed = section.number('assumed', 'ratio', None, low=0.0, high=1.0)
    if joint and assumed is not None:
        section.problem(
            f'{section.path}: joint measures it and assumed replaces that; leave one of them out',
            section.line_of('assumed'),
        )
    outputs = tuple(_gripper_output(part) for part in section.sections('outputs'))
    section.close()
    return Gripper(joint, opened, closed, outputs, assumed)


def _gripper_output(section: Section) -> GripperOutput:
    kind = section.text('type', choices=GRIPPER_OUTPUTS) or 'float64'
    topic = section.text('topic' if kind == 'float64' else 'action') or '?'
    opened = section.number('open', 'ratio', 0.0)
    closed = section.number('closed', 'ratio', 1.0)
    max_effort, joint = 0.0, ''
    if kind != 'float64':
        max_effort = section.number('max_effort', 'ratio', 0.0, low=0.0)
    if kind == 'parallel_gripper_command':
        joint = section.text('joint') or '?'
    if opened == closed:
        section.problem(f'{section.path}: open and closed are the same value')
    section.close()
    return GripperOutput(kind, topic, opened, closed, max_effort, joint)
