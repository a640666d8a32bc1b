"""Two arms in one launch file: each node gets the profile, policy and parameters of its arm."""

import os
import shutil

import pytest

launch_pytest = pytest.importorskip(
    'launch_pytest',
    reason='launch_pytest is not installed: it comes with ROS 2 (ros-<distro>-launch-pytest)',
)

from launch import LaunchContext, LaunchDescription, LaunchService
from launch.actions import (
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnShutdown
from launch_ros.actions import PushRosNamespace, SetParameter
from rcl_interfaces.srv import GetParameters

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.launching import existing_file, full_name

from support.dds import client_node, wait_until

START_LIMIT_S = 60.0
NAMES = ('policy', 'profile', 'recipe', 'dry_run', 'threads', 'use_sim_time')


@pytest.fixture(scope='module')
def client():
    with client_node(int(os.environ.get('ROS_DOMAIN_ID', 0))) as client:
        yield client


@pytest.fixture(scope='module')
def arms(repository, random_policy, tmp_path_factory):
    """Two profiles, and one name of a policy in two places."""
    made = {}
    for side in ('left', 'right'):
        folder = tmp_path_factory.mktemp(side)
        shutil.copy(repository / 'config/robots/sim_sawyer.yaml', folder / 'arm.yaml')
        shutil.copytree(random_policy, folder / 'policy')
        made[side] = {'profile': str(folder / 'arm.yaml'), 'policy': str(folder / 'policy')}
    return made


def include(repository, name='real_arm', **arguments):
    return IncludeLaunchDescription(
        str(repository / 'launch' / f'{name}.launch.py'),
        launch_arguments={'autostart': 'false', 'recipe': 'w8a8', **arguments}.items(),
    )


def parameters_of(client, node):
    request = GetParameters.Request(names=list(NAMES))
    values = client.call(GetParameters, f'{node}/get_parameters', request, START_LIMIT_S).values
    fields = 'string_value', 'string_value', 'string_value', 'bool_value', 'integer_value'
    return {
        name: getattr(value, field)
        for name, value, field in zip(NAMES, values, (*fields, 'bool_value'))
    }


@launch_pytest.fixture
def two_arms(repository, arms):
    return LaunchDescription(
        [
            include(repository, namespace='left', **arms['left'], command='true'),
            GroupAction(
                [
                    PushRosNamespace('cell'),
                    SetParameter('threads', 2),
                    include(repository, namespace='right', **arms['right'], command='false'),
                ]
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=two_arms)
def test_each_node_has_the_values_of_its_own_arm(client, arms):
    common = {'recipe': 'w8a8', 'use_sim_time': False}
    assert parameters_of(client, '/left/policy_node') == {
        **arms['left'],
        **common,
        'dry_run': False,
        'threads': 1,
    }
    assert parameters_of(client, '/cell/right/policy_node') == {
        **arms['right'],
        **common,
        'dry_run': True,
        'threads': 2,
    }
    nodes = [name for name in client.get_node_names() if name == 'policy_node']
    assert len(nodes) == 2


@launch_pytest.fixture
def after_the_simulation(repository, arms, random_policy):
    """Include a real arm after the simulated one, whose defaults are others."""
    return LaunchDescription(
        [
            include(repository, 'sim', namespace='simulated', policy=str(random_policy)),
            include(repository, namespace='left', **arms['left']),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=after_the_simulation)
def test_the_defaults_of_one_launch_file_do_not_count_in_the_next(client, arms):
    given = parameters_of(client, '/left/policy_node')
    assert given == {
        **arms['left'],
        'recipe': 'w8a8',
        'use_sim_time': False,
        'dry_run': True,
        'threads': 1,
    }
    assert parameters_of(client, '/simulated/policy_node')['use_sim_time']


@pytest.fixture(scope='module')
def exits():
    """Collect processes that have ended, and shutdowns of the launch."""
    return []


@launch_pytest.fixture
def ending(repository, random_policy, exits):
    """Include a simulated arm that cannot start, beside another process."""
    simulation = include(
        repository, 'sim', namespace='ends', policy=str(random_policy), task='juggle'
    )
    return LaunchDescription(
        [
            RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: exits.append('shutdown'))),
            RegisterEventHandler(
                OnProcessExit(on_exit=lambda event, _: exits.append(event.process_name))
            ),
            ExecuteProcess(cmd=['sleep', str(int(START_LIMIT_S))]),
            simulation,
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.timeout(3 * START_LIMIT_S)
@pytest.mark.launch(fixture=ending)
def test_the_end_of_one_node_ends_its_arm_and_not_the_including_launch(exits):
    assert wait_until(lambda: len(exits) >= 2, START_LIMIT_S, 0.5), exits
    assert [name.rpartition('-')[0] for name in exits] == ['sim_arm_node', 'policy_node']


@pytest.mark.parametrize(
    ('name', 'argument'),
    [('real_arm', 'params_file'), ('sim', 'sim_params_file'), ('sim', 'policy_params_file')],
)
def test_a_file_of_parameters_that_is_not_there_ends_the_launch(repository, arms, name, argument):
    given = {**arms['left'], argument: '/nowhere.yaml'}
    if name == 'sim':
        del given['profile']
    service = LaunchService()
    service.include_launch_description(LaunchDescription([include(repository, name, **given)]))
    assert service.run() == 1
    context = LaunchContext()
    context.launch_configurations[argument] = '/nowhere.yaml'
    with pytest.raises(UserError, match=f'{argument} is /nowhere.yaml: no such file'):
        existing_file(context, argument)


def test_the_name_of_a_node_has_the_pushed_namespace():
    context = LaunchContext()
    context.launch_configurations.update(ros_namespace='/cell', namespace='left')
    assert full_name(context) == '/cell/left/policy_node'
    context.launch_configurations.update(ros_namespace='/cell', namespace='')
    assert full_name(context) == '/cell/policy_node'
    context.launch_configurations['namespace'] = '/other'
    assert full_name(context) == '/other/policy_node'
    del context.launch_configurations['ros_namespace']
    context.launch_configurations['namespace'] = ''
    assert full_name(context) == '/policy_node'
