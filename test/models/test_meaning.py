"""What a checkpoint's columns mean comes from the user or a known dataset, or is refused."""

from dataclasses import replace
import json

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.cli import main
from sqap_vla_ros.columns import Column
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import open_released
from sqap_vla_ros.models.importers.datasets import find_dataset
from sqap_vla_ros.models.importers.description import describe_meaning
from sqap_vla_ros.models.importers.meaning import (
    Convention,
    data_range,
    find_meaning,
    with_ranges,
)
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.self_test import check_columns

from support import tiny_pi0
from support import tiny_released as tiny
from support.broken_checkpoint import change_json
from support.released_families import PI0_OPTIONS, write_released

PI0 = [
    f'--{name.replace("_", "-")}={value if isinstance(value, float) else ",".join(value)}'
    for name in ('step_s', 'state_names', 'state_units', 'action_names', 'action_units')
    for value in (getattr(PI0_OPTIONS, name),)
]
LIBERO_Q = [0.9375, 0.9375, 0.9375, 0.1971, 0.3364, 0.375]


def write_openvla(folder, dataset, high):
    """Write a tiny OpenVLA whose statistics are those of a dataset."""
    tiny.write_openvla(folder)
    action = {
        'q01': [-value for value in high] + [0.0],
        'q99': [*high, 1.0],
        'mask': [True] * 6 + [False],
    }
    (folder / 'dataset_statistics.json').write_text(json.dumps({dataset: {'action': action}}))


def test_a_libero_fine_tune_moves_as_robosuite_does(tmp_path, capsys):
    write_openvla(tmp_path / 'released', 'libero_spatial_no_noops', LIBERO_Q)
    assert main(['import', str(tmp_path / 'released'), str(tmp_path / 'policy')]) == 0
    printed = capsys.readouterr().out
    assert 'linear.x up to 0.94 m/s (base)' in printed
    assert 'gripper: 1 is open, 0 closed' in printed
    assert '0.9 of the area' in printed and 'mirrored' in printed
    policy = load_policy(tmp_path / 'policy')
    fastest = SiActions(policy.spec.action).values(policy.action_bounds()[1][None])[0]
    assert fastest[:3] == pytest.approx([0.9375] * 3)
    assert fastest[3:6] == pytest.approx(np.array(LIBERO_Q[3:]) * 0.5 / 0.05)
    assert [column.high for column in policy.spec.action.columns[:1]] == [0.9375 * 0.05]


@pytest.mark.parametrize('options', [[], ['--action-units', 'm,m,m,rad,rad,rad,1']])
def test_a_displacement_is_divided_by_the_step_once(tmp_path, options):
    write_openvla(tmp_path / 'released', 'bridge_orig', [0.03] * 3 + [0.08] * 3)
    assert main(['import', str(tmp_path / 'released'), str(tmp_path / 'policy'), *options]) == 0
    policy = load_policy(tmp_path / 'policy')
    fastest = SiActions(policy.spec.action).values(policy.action_bounds()[1][None])[0]
    assert fastest[:3] == pytest.approx([0.15] * 3)
    assert policy.spec.action.columns[-1].opened == 1.0


def test_joint_positions_are_not_touched_by_the_step(tmp_path):
    write_openvla(tmp_path / 'released', 'my_joints', [1.5] * 6)
    names = ','.join([*(f'joint_position.j{i}' for i in range(6)), 'gripper'])
    arguments = ['--step-s', '0.2', '--action-names', names, '--action-units', 'rad,' * 6 + '1']
    assert main(['import', str(tmp_path / 'released'), str(tmp_path / 'policy'), *arguments]) == 0
    assert load_policy(tmp_path / 'policy').action_bounds()[1][:6] == pytest.approx([1.5] * 6)


def test_positions_are_described_in_the_units_of_the_dataset_and_in_si():
    columns = [
        Column('joint_position.a', 'position', 'deg', low=-90.0, high=180.0),
        Column('joint_position.b', 'position', 'percent_signed', low=-20.0, high=30.0),
        Column('joint_position.c', 'position', 'rad'),
    ]
    lines = describe_meaning((), ActionSpec.of(columns, 0.1, 1), (True, False, False))
    assert lines == [
        'time: one action lasts 0.1 s (10 Hz)',
        'action: joint_position.a -90 .. 180 deg = -1.57 .. 3.14 rad, given as an offset from the '
        'state',
        'action: joint_position.b -20 .. 30 on a scale of -100 .. 100 over its calibrated range',
        'action: joint_position.c in rad, over a range that is not known',
    ]


def test_what_a_named_dataset_says_of_images_is_printed(tmp_path, capsys):
    write_openvla(tmp_path / 'released', 'mine', LIBERO_Q)
    arguments = [str(tmp_path / 'released'), str(tmp_path / 'policy')]
    assert main(['import', *arguments, '--columns', 'libero_openvla']) == 0
    printed = capsys.readouterr().out
    assert 'mirrored' in printed and 'columns of libero_openvla' in printed


def meaning(options, key='mine', counts=(1, 1), convention=Convention()):
    return find_meaning(key, counts, options, 'pi0', convention)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (ImportOptions(step_s=1.0), ("dataset 'mine'", '--columns', 'so101_degrees')),
        (
            ImportOptions(step_s=1.0, state_names=('joint.a',), state_units=('bananas',)),
            ('bananas', '--state-units'),
        ),
        (
            ImportOptions(step_s=1.0, state_names=('gripper',), state_units=('m',)),
            ('gripper', 'open', '--columns'),
        ),
        (
            ImportOptions(step_s=1.0, state_names=('force',), state_units=('1',)),
            ('force', '--columns'),
        ),
        (
            ImportOptions(
                step_s=1.0, state_names=('joint.a', 'joint.b'), state_units=('rad',) * 2
            ),
            ('--state-names has 2', '1 state'),
        ),
        (
            ImportOptions(
                state_names=('joint.a',),
                state_units=('rad',),
                action_names=('joint_position.a',),
                action_units=('rad',),
            ),
            ('--step-s',),
        ),
        (
            ImportOptions(step_s=1.0, columns='so101_degrees'),
            ('so101_degrees', '6 state', 'has 1'),
        ),
        (ImportOptions(step_s=1.0, columns='nobody'), ("'nobody'", 'bridge_orig')),
    ],
)
def test_what_nobody_said_or_contradicts_itself_is_refused(options, words):
    with pytest.raises(UserError) as caught:
        meaning(options)
    text = str(caught.value)
    assert all(word in text for word in words) and '\n' not in text


def test_a_crop_that_nobody_applies_is_refused(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(
        'step_s: 0.1\nimage: {crop_area: 0.9}\naction:\n'
        '  - {name: joint_position.a, quantity: position, unit: deg}\n'
    )
    with pytest.raises(UserError, match=r'mine.yaml: image.crop_area means nothing .* pi0'):
        meaning(ImportOptions(columns=str(path)), counts=(0, 1))
    found = find_meaning('mine', (0, 1), ImportOptions(columns=str(path)), 'openvla')
    assert found.dataset.crop_area == 0.9


def test_options_must_agree_with_a_known_dataset():
    options = ImportOptions(columns='so101_degrees', state_units=('rad',) * 5 + ('1',))
    with pytest.raises(UserError, match='--state-units says rad.*deg'):
        meaning(options, counts=(6, 6))


def test_a_file_says_offsets_scale_and_units(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(
        'step_s: 0.1\n'
        'action:\n'
        '  - {name: joint_position.a, quantity: offset, unit: deg, scale: 10}\n'
        'state:\n'
        '  - {name: joint.a, quantity: position, unit: deg}\n'
    )
    found = meaning(ImportOptions(columns=str(path)))
    assert found.relative == (True,) and found.action_scale == (10.0,) and found.step_s == 0.1
    assert found.action[0].quantity == 'position' and found.state[0].unit == 'deg'


@pytest.mark.parametrize(
    ('line', 'word'),
    [
        ('{name: linear.x, quantity: displacement, unit: m}', 'frame'),
        ('{name: angular.x, quantity: displacement, unit: rad, frame: base}', 'rotation'),
        ('{name: joint_position.a, quantity: position, unit: inch}', 'inch'),
        ('{name: joint_position.a, quantity: position, unit: rad, sacle: 2}', 'sacle'),
        ('{name: gripper, quantity: ratio, unit: percent}', 'opened'),
        ('{name: joint_position.a, quantity: velocity, unit: rad}', 'velocity'),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, line, word):
    path = tmp_path / 'mine.yaml'
    path.write_text(f'step_s: 0.1\naction:\n  - {line}\n')
    with pytest.raises(UserError, match=word) as caught:
        find_dataset(str(path))
    assert str(caught.value).startswith(f'{path}:3:')


@pytest.mark.parametrize(
    ('ends', 'unit', 'values'), [((-1, 1), '1', (-1.0, 1.0)), ((0.08, 0), 'm', (0.0, 0.08))]
)
def test_cogact_answers_0_or_1_for_the_gripper(tmp_path, ends, unit, values):
    options = write_released('cogact', tmp_path / 'released')
    moves = 'quantity: displacement, frame: base'
    columns = [f'{{name: linear.{axis}, {moves}, unit: m}}' for axis in 'xyz']
    turns = f'{moves}, unit: rad, rotation: axis_angle'
    columns += [f'{{name: angular.{axis}, {turns}}}' for axis in 'xyz']
    gripper = f"quantity: ratio, unit: '{unit}', opened: {ends[0]}, closed: {ends[1]}"
    columns.append(f'{{name: gripper, {gripper}}}')
    path = tmp_path / 'mine.yaml'
    path.write_text('step_s: 0.1\naction:\n' + ''.join(f'  - {line}\n' for line in columns))

    def change(data):
        for field, value in zip(('q01', 'q99'), values):
            data['tiny_dataset']['action'][field][6] = value

    change_json(tmp_path / 'released', 'dataset_statistics.json', change)
    with pytest.raises(UserError, match='gripper is said to be .* CogACT answers 0 or 1'):
        open_released(tmp_path / 'released', replace(options, columns=str(path), action_units=()))


def test_import_and_check_print_the_same(tmp_path, capsys):
    """Of statistics with quantiles, ends, mean and deviation both choose the same ones."""
    tiny_pi0.write_pi0(tmp_path / 'released')
    assert main(['import', str(tmp_path / 'released'), str(tmp_path / 'policy'), *PI0]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line[:6] == 'action']
    policy = load_policy(tmp_path / 'policy')
    assert len(printed) == 7 and set(printed) <= set(check_columns(policy)[1])
    columns = policy.spec.action.columns
    low, high = policy.action_bounds()
    assert low == pytest.approx([column.low for column in columns])
    assert high == pytest.approx([column.high for column in columns])


def test_a_gripper_whose_data_lie_elsewhere_is_refused():
    columns = meaning(
        ImportOptions(
            step_s=1.0,
            state_names=('gripper',),
            state_units=('1',),
            action_names=('gripper',),
            action_units=('1',),
        )
    ).state
    for statistics in ({'q01': [0.0], 'q99': [100.0]}, {'mean': [50.0], 'std': [30.0]}):
        with pytest.raises(UserError, match='gripper is .* in the training data'):
            with_ranges(columns, data_range(statistics), 'statistics.json')
    assert with_ranges(columns, data_range({'q01': [0.0], 'q99': [1.0]}), '')[0].high == 1.0


def test_a_file_that_was_not_fetched_is_told_before_what_the_columns_mean(tmp_path):
    write_openvla(tmp_path / 'released', 'unknown', [1.0] * 6)
    (tmp_path / 'released' / 'tokenizer.json').write_text(
        f'version https://git-lfs.github.com/spec/v1\noid sha256:{7:064}\nsize 4925122448\n'
    )
    with pytest.raises(UserError, match='tokenizer.json: a Git LFS pointer'):
        open_released(tmp_path / 'released')
