"""The known datasets in config/datasets: complete, unambiguous, with their sources."""

from collections import Counter
import re

import pytest
import yaml

KEYS = {'dataset', 'keys', 'summary', 'step_s', 'family', 'image', 'action', 'state'}
UNITS = {
    'displacement': {'m', 'rad'},
    'position': {'m', 'rad', 'deg', '1', 'fraction', 'percent', 'percent_signed'},
    'ratio': {'1', 'm', 'percent'},
}
ORIENTATIONS = {
    'euler_xyz': ('roll', 'pitch', 'yaw'),
    'axis_angle': ('rx', 'ry', 'rz'),
    'quaternion_xyzw': ('qx', 'qy', 'qz', 'qw'),
}
NAMES = {
    'bridge_orig',
    'fractal20220817_data',
    'libero_openvla',
    'libero_lerobot',
    'droid',
    'droid_openvla',
    'aloha',
    'so101_degrees',
    'so101_percent',
}


@pytest.fixture(scope='module')
def files(repository):
    """Name of a dataset to its file."""
    return {path.stem: path for path in (repository / 'config' / 'datasets').glob('*.yaml')}


@pytest.fixture(scope='module')
def datasets(files):
    """Name of a dataset to what its file says."""
    return {name: yaml.safe_load(path.read_text('utf-8')) for name, path in files.items()}


def columns(data):
    """All columns of a dataset."""
    return [*data['action'], *data['state']]


def speeds(data):
    """Name of each moving action column to its speed for a stored 1.0, m/s or rad/s."""
    return {
        column['name']: column.get('scale', 1) / data['step_s']
        for column in data['action']
        if column['quantity'] == 'displacement'
    }


def gripper(columns):
    """Return (value when open, value when closed) of the gripper."""
    (found,) = [column for column in columns if column['name'] == 'gripper']
    return found['opened'], found['closed']


def test_the_files_are_those_that_are_documented(files, repository):
    assert set(files) == NAMES
    page = (repository / 'doc' / 'datasets.md').read_text('utf-8')
    assert set(re.findall(r'^\| `(\w+)` \|', page, re.MULTILINE)) >= NAMES


@pytest.mark.parametrize('name', sorted(NAMES))
def test_a_file_has_the_known_keys_and_is_called_as_its_dataset(name, datasets):
    data = datasets[name]
    assert set(data) <= KEYS and KEYS - set(data) <= {'family', 'image'}
    assert data['dataset'] == name
    assert data['summary'] and '\n' not in data['summary'] and len(data['summary']) < 150
    assert 0 < data['step_s'] < 1
    assert set(data.get('image', ())) <= {'rotated_180', 'crop_area'}


@pytest.mark.parametrize('name', sorted(NAMES))
def test_every_column_says_what_it_means(name, datasets):
    for column in columns(datasets[name]):
        assert column['unit'] in UNITS[column['quantity']], column
        is_gripper = column['name'] in ('gripper', 'gripper_2')
        assert (column['quantity'] == 'ratio') == is_gripper, column
        assert ('opened' in column and 'closed' in column) == is_gripper, column
        assert not is_gripper or column['opened'] != column['closed'], column
        group, _, part = column['name'].partition('.')
        cartesian = group in ('linear', 'angular', 'end_effector')
        assert (column.get('frame') == 'base') == cartesian, column
        turns = group == 'angular' or (group == 'end_effector' and part not in 'xyz')
        assert ('rotation' in column) == turns, column


@pytest.mark.parametrize('name', sorted(NAMES))
def test_columns_are_named_once_and_rotations_are_whole(name, datasets):
    for part in ('action', 'state'):
        names = [column['name'] for column in datasets[name][part]]
        assert len(set(names)) == len(names)
        for group in ('linear', 'angular'):
            found = [name for name in names if name.startswith(f'{group}.')]
            assert found in ([], [f'{group}.{axis}' for axis in 'xyz'])
        turned = [c for c in datasets[name][part] if c['name'].startswith('end_effector.')][3:]
        if turned:
            (rotation,) = {column['rotation'] for column in turned}
            expected = [f'end_effector.{component}' for component in ORIENTATIONS[rotation]]
            assert [column['name'] for column in turned] == expected


@pytest.mark.parametrize('name', sorted(NAMES))
def test_sources_are_numbered_and_each_is_used(name, files):
    text = files[name].read_text('utf-8')
    source = re.compile(r'^#  \[(\d+)\] ', re.MULTILINE)
    listed = source.findall(text)
    assert listed == [str(number + 1) for number in range(len(listed))]
    assert set(re.findall(r'\[(\d+)\]', source.sub('', text))) == set(listed)


def test_a_key_of_statistics_means_one_dataset_for_each_family(datasets):
    found = Counter(
        (key, family)
        for data in datasets.values()
        for key in data['keys']
        for family in data.get('family', ['any'])
    )
    assert found and set(found.values()) == {1}
    for key, family in found:
        assert family == 'any' or (key, 'any') not in found


def test_what_a_stored_one_stands_for(datasets):
    for name in ('libero_openvla', 'libero_lerobot'):
        speed = speeds(datasets[name])
        assert speed['linear.x'] == pytest.approx(1.0) and speed['angular.z'] == pytest.approx(
            10.0
        )
    assert list(speeds(datasets['droid']).values()) == pytest.approx([3.0] * 7)
    assert speeds(datasets['droid_openvla'])['linear.x'] == pytest.approx(1.125)
    assert speeds(datasets['bridge_orig'])['linear.x'] == pytest.approx(5.0)
    assert speeds(datasets['fractal20220817_data'])['angular.y'] == pytest.approx(3.0)


def test_which_end_of_the_gripper_is_open(datasets):
    ends = {
        'bridge_orig': (1, 0),
        'fractal20220817_data': (1, 0),
        'libero_openvla': (1, 0),
        'libero_lerobot': (-1, 1),
        'droid': (0, 1),
        'droid_openvla': (1, 0),
        'so101_degrees': (100, 0),
        'so101_percent': (100, 0),
    }
    assert {name: gripper(datasets[name]['action']) for name in ends} == ends
    # OpenVLA's loader turns the gripper of the action round, but not that of the state.
    assert gripper(datasets['fractal20220817_data']['state']) == (0, 1)
    assert gripper(datasets['droid_openvla']['state']) == (0, 1)
