"""
The steps in lerobot's pipeline files.

`policy_preprocessor.json` and `policy_postprocessor.json` list steps by name. Every step is one of
`BEFORE` or `AFTER`, with settings that are known, or the file is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json


@dataclass(frozen=True)
class Step:
    """One step of a pipeline."""

    where: str
    """File, index and name, for messages."""
    index: int
    name: str
    config: Mapping[str, Any]
    state_file: Any


def read_steps(path: Path, known: Mapping[str, tuple[str, ...]]) -> list[Step]:
    """
    Read a pipeline file.

    Args:
        path: of the file.
        known: name of each step that it may have to the settings of the step.

    Raises:
        UserError: names the file, the index and the name of a step that is not known, or has a
            setting that is not.
    """
    if not path.is_file():
        raise UserError(
            f'{path}: no such file; a checkpoint of lerobot 0.4 or later has it, and without it '
            'nobody knows how its numbers are normalised'
        )
    entries = read_json(path).get('steps')
    if not isinstance(entries, list):
        raise UserError(f'{path}: steps is missing; expected the list of steps of a pipeline')
    steps = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f'{path}: step {index} is {entry!r:.60}, expected an object')
        name = entry.get('registry_name', entry.get('class'))
        where = f'{path}: step {index} ({name})'
        if not isinstance(name, str) or name not in known:
            raise UserError(
                f'{where} is not supported here; known are {", ".join(known)}. What it does to '
                'the numbers would be left out'
            )
        config = entry.get('config') or {}
        if not isinstance(config, dict):
            raise UserError(f'{where}: config is {config!r:.60}, expected an object')
        unknown = sorted(set(config) - set(known[name]))
        if unknown:
            raise UserError(
                f'{where}: setting {unknown[0]!r} is not known to this package; it may change '
                'numbers'
            )
        step = Step(where, index, name, config, entry.get('state_file'))
        if check := _CHECKS.get(name):
            check(step)
        steps.append(step)
    return steps


def one_step(path: Path, steps: list[Step], name: str) -> Step:
    """Find the step of a name. Raises UserError if there is none, or more than one."""
    found = [step for step in steps if step.name == name]
    if len(found) != 1:
        raise UserError(f'{path}: {len(found)} steps {name!r}, expected one')
    return found[0]


def _check_device(step: Step) -> None:
    kind = step.config.get('float_dtype')
    if kind not in (None, 'float32'):
        raise UserError(f'{step.where}: float_dtype is {kind!r}, expected none or float32')


def _check_tokenizer(step: Step) -> None:
    for key, expected in (('task_key', 'task'), ('padding_side', 'right'), ('truncation', True)):
        value = step.config.get(key, expected)
        if value != expected:
            raise UserError(f'{step.where}: {key} is {value!r}, expected {expected!r}')
    name = step.config.get('tokenizer_name', 'paligemma')
    if not isinstance(name, str) or 'paligemma' not in name.lower():
        raise UserError(f"{step.where}: tokenizer_name is {name!r}, expected PaliGemma's")


def _check_switch(step: Step) -> None:
    if not isinstance(step.config.get('enabled', False), bool):
        raise UserError(
            f'{step.where}: enabled is {step.config["enabled"]!r}, expected true or false'
        )


_NORMALIZER = ('eps', 'features', 'norm_map', 'normalize_observation_keys')
_BOTH: dict[str, tuple[str, ...]] = {
    'to_batch_processor': (),
    'to_batch_processor_action': (),
    'to_batch_processor_observation': (),
    'to_batch_processor_complementary_data': (),
    'device_processor': ('device', 'float_dtype'),
}
BEFORE = {
    **_BOTH,
    'rename_observations_processor': ('rename_map',),
    'pi0_new_line_processor': (),
    'smolvla_new_line_processor': (),
    'tokenizer_processor': (
        'max_length',
        'task_key',
        'padding_side',
        'padding',
        'truncation',
        'tokenizer_name',
    ),
    'relative_actions_processor': ('enabled', 'exclude_joints', 'action_names'),
    'normalizer_processor': _NORMALIZER,
}
AFTER = {
    **_BOTH,
    'unnormalizer_processor': _NORMALIZER,
    'absolute_actions_processor': ('enabled',),
}
"""Steps that each pipeline may have, with the settings that are known."""
_CHECKS: dict[str, Callable[[Step], None]] = {
    'device_processor': _check_device,
    'tokenizer_processor': _check_tokenizer,
    'relative_actions_processor': _check_switch,
    'absolute_actions_processor': _check_switch,
}


def whole_number(step: Step, key: str, default: int) -> int:
    """Read a setting that is a whole number above 0. Raises UserError otherwise."""
    value = step.config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f'{step.where}: {key} is {value!r}, expected a whole number above 0')
    return value
