"""Folders of pi0 as lerobot and openpi write them, to be broken by tests."""

from dataclasses import replace

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import import_policy

from support.broken_checkpoint import change_json, copy_of
from support.released_families import write_openpi, write_released

BEFORE, AFTER = 'policy_preprocessor.json', 'policy_postprocessor.json'
JOINTS = tuple('abcdefg')
POSITIONS = {
    'state_names': tuple(f'joint.{name}' for name in (*JOINTS, 'h')),
    'state_units': ('rad',) * 8,
    'action_names': tuple(f'joint_position.{name}' for name in JOINTS),
    'action_units': ('rad',) * 7,
}


def config(**fields):
    """Return a change of the fields of config.json."""
    return lambda folder: change_json(folder, 'config.json', lambda data: data.update(fields))


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    """Library to (folder, import options)."""
    root = tmp_path_factory.mktemp('originals')
    return {
        'lerobot': (root / 'lerobot', write_released('pi0', root / 'lerobot')),
        'openpi': (root / 'openpi', write_openpi(root / 'openpi')),
    }


@pytest.fixture
def broken(originals, tmp_path):
    """Return a function that changes a copy of a folder; returns it and the usual options."""

    def run(kind, *changes):
        folder, options = originals[kind]
        copy = copy_of(folder, tmp_path / f'source{len(list(tmp_path.iterdir()))}')
        for change in changes:
            change(copy)
        return copy, options

    return run


@pytest.fixture
def refusal(broken):
    """Return a function that changes a folder and returns what import says."""

    def run(kind, *changes, **options):
        folder, usual = broken(kind, *changes)
        with pytest.raises(UserError) as caught:
            import_policy(folder, folder.parent / 'out', replace(usual, **options))
        message = str(caught.value)
        assert '\n' not in message and not (folder.parent / 'out').exists()
        return message

    return run
