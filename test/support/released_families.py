"""A tiny released checkpoint of every family."""

from dataclasses import replace
from pathlib import Path

from sqap_vla_ros.models.importers.prismatic import CONVENTION
from sqap_vla_ros.models.importers.released import ImportOptions

from support import tiny_pi0, tiny_released

FAMILIES = 'openvla', 'cogact', 'pi0'
ACTION_NAMES = CONVENTION.action_names
DISPLACEMENTS = ('m',) * 3 + ('rad',) * 3 + ('1',)
VELOCITIES = ('m/s',) * 3 + ('rad/s',) * 3 + ('1',)
STATES = (
    'end_effector.x',
    'end_effector.y',
    'end_effector.z',
    'gripper',
    'joint.right_j0',
    'joint.right_j1',
    'joint.right_j2',
    'joint.right_j3',
)
PI0_OPTIONS = ImportOptions(
    step_s=0.02,
    state_names=STATES,
    state_units=('m',) * 3 + ('1',) + ('rad',) * 4,
    action_names=ACTION_NAMES,
    action_units=VELOCITIES,
)


def write_openpi(folder: Path) -> ImportOptions:
    """Write a tiny pi0 checkpoint in openpi's format; see `write_released`."""
    tiny_pi0.write_openpi(folder)
    return replace(PI0_OPTIONS, cameras=tiny_pi0.CAMERAS)


def write_released(family: str, folder: Path) -> ImportOptions:
    """Write a tiny released checkpoint and return the options to import it with."""
    if family == 'openvla':
        tiny_released.write_openvla(folder)
        return ImportOptions(step_s=1.0, action_units=DISPLACEMENTS)
    if family == 'pi0':
        tiny_pi0.write_pi0(folder)
        return PI0_OPTIONS
    tiny_released.write_cogact(folder)
    tiny_released.write_llama_tokenizer(folder)
    return ImportOptions(step_s=1.0, action_units=DISPLACEMENTS)
