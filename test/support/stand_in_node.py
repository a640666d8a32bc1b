"""A policy node whose worker is `faulty_worker`, in its own process, without a fault injector."""

from contextlib import contextmanager

from sqap_vla_ros.system.child_process import isolated_environment

from support.circling import FAULT_FILE
from support.dds import domain
from support.fault_rig import start_policy, TESTS
from support.policy_node_rig import rig_of
from support.robot import Robot


@contextmanager
def stand_in_node(directory, *arguments, make_robot=Robot, fault=''):
    """Start a node that is configured only by a request; yields a `policy_node_rig.Rig`."""
    fault_file = directory / 'fault'
    fault_file.write_text(fault, 'utf-8')
    domain_id = domain()
    environment = isolated_environment(domain_id) | {FAULT_FILE: str(fault_file)}
    environment['PYTHONPATH'] = ':'.join(
        [str(TESTS), str(TESTS.parent), environment.get('PYTHONPATH', '')]
    )
    process = start_policy(directory, environment, '-p', 'autostart:=false', *arguments)
    with rig_of(process, domain_id, make_robot) as rig:
        rig.fault_file = fault_file
        yield rig
