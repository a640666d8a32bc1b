"""Rows of the fault table: a checkpoint that is missing, damaged or not what it says."""

import json
import shutil
import sys
import time

import pytest

from sqap_vla_ros.system.child_process import ChildProcess, isolated_environment

from support.dds import client_node, domain, wait_until
from support.fault_rig import JITTER_S, Rig

CONFIGURE, CLEANUP = 1, 2


def remove(policy):
    (policy / 'model.safetensors').unlink()


def truncate(policy):
    weights = policy / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1000])


def change_a_weight(policy):
    """Leave the file whole, so that only the hash tells."""
    weights = policy / 'model.safetensors'
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def name_an_unknown_key(policy):
    config = json.loads((policy / 'config.json').read_text())
    (policy / 'config.json').write_text(json.dumps({**config, 'surprise': 1}))


@pytest.fixture(scope='module')
def node(compressed, tmp_path_factory):
    """Start the node, unconfigured; `node.policy` is a copy of the checkpoint to be damaged."""
    directory = tmp_path_factory.mktemp('checkpoint')
    policy, domain_id = directory / 'policy', domain()
    shutil.copytree(compressed, policy)
    process = ChildProcess(
        'policy_node',
        [
            sys.executable,
            '-m',
            'sqap_vla_ros.ros.policy_node.node',
            '--ros-args',
            '-p',
            f'policy:={policy}',
        ],
        directory / 'policy_node.log',
        isolated_environment(domain_id),
    )
    try:
        with client_node(domain_id) as client:
            rig = Rig(client, None, None, process, directory / 'fault', JITTER_S)
            rig.policy = policy
            (directory / 'fault').touch()
            rig.wait_state('UNREADY')
            yield rig
    finally:
        process.stop()


@pytest.mark.parametrize(
    'damage, told',
    [
        (remove, 'model.safetensors'),
        (truncate, 'model.safetensors'),
        (change_a_weight, 'hash'),
        (name_an_unknown_key, 'surprise'),
    ],
)
def test_a_bad_checkpoint_fails_to_configure_with_one_line(node, trials, compressed, damage, told):
    name = f'checkpoint: {damage.__name__.replace("_", " ")}'
    for _ in trials(node, name, 'configure fails cleanly'):
        shutil.rmtree(node.policy)
        shutil.copytree(compressed, node.policy)
        damage(node.policy)
        before = len(node.log())
        assert not node.lifecycle(CONFIGURE)
        assert wait_until(lambda: 'cannot configure' in node.log()[before:], 10)
        time.sleep(0.2)
        lines = [line for line in node.log()[before:].splitlines() if '[ERROR]' in line]
        assert len(lines) == 1 and told in lines[0], node.log()[before:]
        assert not node.twists and node.state().startswith('UNREADY')


def test_the_same_node_takes_the_whole_checkpoint_afterwards(node, compressed):
    shutil.rmtree(node.policy)
    shutil.copytree(compressed, node.policy)
    assert node.lifecycle(CONFIGURE), node.log()
    node.wait_state('READY')
    assert node.lifecycle(CLEANUP)
