"""Arm and policy on two machines: two network namespaces, a cable between them, JPEG images."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('metaworld', reason='the simulated arm is not installed')

from sqap_vla_ros.system.child_process import ChildProcess, wait_until

from support.dds import domain

SUPPORT = Path(__file__).resolve().parents[1] / 'support'
ARM, POLICY = 'sqap_arm', 'sqap_policy'
FACTOR = 0.25
"""Simulated seconds a second: with several other tests beside it a small machine keeps up."""
LIMIT_S = 120.0


def ip(*arguments):
    subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def machines():
    """Two namespaces joined by a veth pair."""
    if os.geteuid() != 0 or shutil.which('ip') is None:
        pytest.skip('needs root and the program ip (iproute2)')
    names = {side: f'{side}_{os.getpid()}' for side in (ARM, POLICY)}
    try:
        for name in names.values():
            ip('netns', 'add', name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f'no network namespaces here: {error.stderr.strip()}')
    try:
        ip(
            'link',
            'add',
            'veth0',
            'netns',
            names[ARM],
            'type',
            'veth',
            'peer',
            'name',
            'veth0',
            'netns',
            names[POLICY],
        )
        for index, name in enumerate(names.values(), 1):
            ip('-n', name, 'addr', 'add', f'10.77.0.{index}/24', 'dev', 'veth0')
            for device in ('lo', 'veth0'):
                ip('-n', name, 'link', 'set', device, 'up')
            ip('-n', name, 'route', 'add', '224.0.0.0/4', 'dev', 'veth0')
        yield names
    finally:
        for name in names.values():
            ip('netns', 'del', name)


@pytest.fixture
def compressed(repository, tmp_path):
    """Compress the shipped policy."""
    from sqap_vla_ros.cli import main

    policy = repository / 'policies' / 'small'
    if not (policy / 'model.safetensors').exists():
        pytest.skip('the shipped policy is not there')
    recipe = repository / 'config' / 'recipes' / 'sqap_w4a4_prune40.yaml'
    assert main(['compress', str(policy), str(tmp_path / 'policy'), '--recipe', str(recipe)]) == 0
    return tmp_path / 'policy'


@pytest.mark.timeout(1200)
def test_demo_tasks_succeed_over_the_network_with_compressed_images(
    machines, compressed, repository, tmp_path
):
    domain_id = domain()
    environment = dict(
        os.environ,
        ROS_DOMAIN_ID=str(domain_id),
        ROS_AUTOMATIC_DISCOVERY_RANGE='SUBNET',
        PYTHONUNBUFFERED='1',
        OMP_NUM_THREADS='1',
        PYTHONPATH=os.pathsep.join([str(repository), os.environ.get('PYTHONPATH', '')]),
        # UDP alone: shared memory would see through the namespaces.
        FASTDDS_BUILTIN_TRANSPORTS='UDPv4',
    )
    processes = []

    def start(side, name, *command):
        process = ChildProcess(
            name,
            ['ip', 'netns', 'exec', machines[side], sys.executable, *command],
            tmp_path / f'{name}.log',
            environment,
        )
        processes.append(process)
        return process

    try:
        start(
            ARM,
            'arm',
            '-m',
            'sqap_vla_ros.ros.sim_arm.node',
            '--ros-args',
            '-p',
            'publish_clock:=true',
            '-p',
            f'real_time_factor:={FACTOR}',
        )
        start(
            POLICY,
            'policy',
            '-m',
            'sqap_vla_ros.ros.policy_node.node',
            '--ros-args',
            '-p',
            f'policy:={compressed}',
            '-p',
            'profile:=sim_sawyer_compressed',
            '-p',
            'inference_deadline_s:=20.0',
            '-p',
            'use_sim_time:=true',
            '-p',
            f'observation_timeout_s:={0.5 / FACTOR}',
        )  # on the steady clock
        client = start(
            ARM,
            'client',
            str(SUPPORT / 'two_machines_client.py'),
            str(domain_id),
            str(LIMIT_S),
            str(FACTOR),
        )
        assert wait_until(lambda: client.status is not None, 1000)
        text = client.log.read_text()
        assert client.status == 0, '\n'.join(
            [text[-1500:], *(process.log.read_text()[-1500:] for process in processes)]
        )
    finally:
        for process in reversed(processes):
            process.stop()
    report = json.loads(text.splitlines()[-1])
    print(json.dumps(report, indent=1))
    for task, attempts in report['tasks'].items():
        assert attempts[-1][0], (task, report)
    assert report['chunks'] > 10 and report['camera_to_command_ms']['p50'] > 0
