"""Faults of lerobot's pi0 folders: one line that names file, step or key."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import open_released

from support import tiny_pi0 as tiny
from support.broken_checkpoint import change_json, change_tensors, write
from support.pi0_folders import AFTER, BEFORE, config, JOINTS, POSITIONS

STATE, ACTION = 'observation.state', 'action'


def step(file, name, **fields):
    """Change the configuration of a step of a pipeline."""

    def edit(data):
        for entry in data['steps']:
            if entry['registry_name'] == name:
                entry['config'] = {**entry['config'], **fields}

    return lambda folder: change_json(folder, file, edit)


def insert(file, index, name, **fields):
    return lambda folder: change_json(
        folder, file, lambda data: data['steps'].insert(index, tiny.step(name, fields))
    )


def drop(file, name):
    def edit(data):
        data['steps'] = [s for s in data['steps'] if s['registry_name'] != name]

    return lambda folder: change_json(folder, file, edit)


def modes(file, **kinds):
    name = 'normalizer_processor' if file == BEFORE else 'unnormalizer_processor'
    return step(file, name, norm_map={**tiny.NORM_MAP, **kinds})


def both_modes(**kinds):
    """Change the mode in all three files that say it."""
    mapping = config(normalization_mapping={**tiny.NORM_MAP, **kinds})
    return modes(BEFORE, **kinds), modes(AFTER, **kinds), mapping


def statistics(file, **changes):
    """Change statistics of a state file; a value is a function of the tensor, or None to drop."""

    def edit(stored):
        for name, change in changes.items():
            tensor = stored.pop(name)
            if change is not None:
                stored[name] = change(tensor).contiguous()

    return lambda folder: change_tensors(folder, edit, file)


def state_file(file, index, name):
    return lambda folder: change_json(
        folder, file, lambda data: data['steps'][index].update(state_file=name)
    )


def under_datasets(file, *names, middle='.buffer'):
    """Store statistics under the names of datasets, as lerobot before 0.4 did."""

    def edit(stored):
        return {f'{n}{middle}.{key}': v.clone() for n in names for key, v in stored.items()}

    return lambda folder: change_tensors(folder, edit, file)


def relative(*, before=True, after=True, stated=None, names=JOINTS, exclude=('g',)):
    def edit(folder):
        given = {'enabled': before, 'exclude_joints': list(exclude), 'action_names': list(names)}
        insert(BEFORE, 5, 'relative_actions_processor', **given)(folder)
        insert(AFTER, 1, 'absolute_actions_processor', enabled=after)(folder)
        if stated is not None:
            config(use_relative_actions=stated)(folder)

    return edit


def normalizer_first(folder):
    change_json(folder, BEFORE, lambda data: data['steps'].insert(5, data['steps'].pop()))


def nan(tensor):
    return tensor.index_fill(0, torch.tensor([2]), torch.nan)


FAULTS = {
    'unknown step': (
        [insert(BEFORE, 2, 'ee_bounds_and_safety')],
        (BEFORE, 'step 2 (ee_bounds_and_safety)'),
    ),
    'unknown step after': (
        [insert(AFTER, 1, 'vla_jepa_clip_actions')],
        (AFTER, 'step 1 (vla_jepa_clip_actions)'),
    ),
    'step of the other pipeline': (
        [insert(AFTER, 0, 'normalizer_processor')],
        (AFTER, 'step 0 (normalizer_processor)'),
    ),
    'unknown setting': (
        [step(BEFORE, 'normalizer_processor', clip=True)],
        ('step 5 (normalizer_processor)', "'clip'"),
    ),
    'half precision': (
        [step(BEFORE, 'device_processor', float_dtype='float16')],
        ('device_processor', 'float16'),
    ),
    'prompt is not cut': (
        [step(BEFORE, 'tokenizer_processor', truncation=False)],
        ('tokenizer_processor', 'truncation'),
    ),
    'another text': (
        [step(BEFORE, 'tokenizer_processor', task_key='subtask')],
        ('task_key', 'subtask'),
    ),
    'another tokenizer': (
        [step(BEFORE, 'tokenizer_processor', tokenizer_name='gpt2')],
        ("'gpt2'", 'PaliGemma'),
    ),
    'prompt of no length': (
        [step(BEFORE, 'tokenizer_processor', max_length=0)],
        ('max_length is 0',),
    ),
    'no newline': ([drop(BEFORE, 'pi0_new_line_processor')], (BEFORE, 'newline')),
    'no normalizer': ([drop(BEFORE, 'normalizer_processor')], ("'normalizer_processor'",)),
    'no unnormalizer': ([drop(AFTER, 'unnormalizer_processor')], (AFTER, 'unnormalizer')),
    'no postprocessor': ([lambda folder: (folder / AFTER).unlink()], (AFTER, 'no such file')),
    'no preprocessor': ([lambda folder: (folder / BEFORE).unlink()], (BEFORE, 'no such file')),
    'no steps': (
        [lambda folder: change_json(folder, BEFORE, lambda data: data.pop('steps'))],
        ('steps is missing',),
    ),
    'step that is a word': (
        [lambda folder: change_json(folder, BEFORE, lambda d: d['steps'].insert(0, 'x'))],
        ("step 0 is 'x'",),
    ),
    # Modes.
    'unknown mode': ([*both_modes(STATE='LOG')], ("'LOG'", 'QUANTILES')),
    'modes of actions differ': (
        [modes(AFTER, ACTION='QUANTILES')],
        (AFTER, 'ACTION is QUANTILES', BEFORE, 'MEAN_STD'),
    ),
    'mode differs from config.json': (
        [modes(BEFORE, STATE='MIN_MAX')],
        ('STATE is MIN_MAX', 'normalization_mapping'),
    ),
    'mode that a step leaves out': (
        [step(BEFORE, 'normalizer_processor', norm_map={})],
        ('IDENTITY', 'MEAN_STD'),
    ),
    'normalised images': ([*both_modes(VISUAL='MEAN_STD')], ('VISUAL', 'MEAN_STD')),
    'state is no feature': (
        [step(BEFORE, 'normalizer_processor', features={ACTION: tiny.FEATURES[ACTION]})],
        ('features has no observation.state',),
    ),
    # Statistics.
    'NaN': ([statistics(tiny.STATE_FILE, **{f'{STATE}.mean': nan})], ('mean is nan in column 2',)),
    'infinite': (
        [statistics(tiny.ACTION_FILE, **{f'{ACTION}.std': lambda t: t / 0})],
        ('action.std is inf in column 0',),
    ),
    'negative deviation': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.std': lambda t: -t})],
        ('observation.state.std is -',),
    ),
    'short': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.std': lambda t: t[:5]})],
        ('observation.state.std has 5 values, expected 8',),
    ),
    'a column too many': (
        [statistics(tiny.ACTION_FILE, **{f'{ACTION}.{f}': lambda t: torch.cat([t, t[:1]])
                                         for f in ('mean', 'std')})],
        ('has 8 values, expected 7',),
    ),
    'matrix': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.std': lambda t: t[None]})],
        ('observation.state.std is float32 (1, 8)',),
    ),
    'missing statistic': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.std': None})],
        (tiny.STATE_FILE, 'observation.state.std is missing'),
    ),
    'missing quantiles': (
        [*both_modes(STATE='QUANTILES', ACTION='QUANTILES'),
         statistics(tiny.ACTION_FILE, **{f'{ACTION}.q99': None})],
        (tiny.ACTION_FILE, 'action.q99 is missing', 'QUANTILES'),
    ),
    'swapped quantiles': (
        [*both_modes(ACTION='QUANTILES'),
         statistics(tiny.ACTION_FILE, **{f'{ACTION}.q99': lambda t: -t.abs() - 9})],
        ('q01 is above q99 in column 0',),
    ),
    'no statistics of the state': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.{f}': None
                                        for f in ('mean', 'std', 'min', 'max', 'q01', 'q99')})],
        (tiny.STATE_FILE, 'observation.state are missing'),
    ),
    'mean in other units': (
        [statistics(tiny.ACTION_FILE, **{f'{ACTION}.mean': lambda t: t + 100})],
        ('action.mean is', 'column 0', 'not of the same data'),
    ),
    'deviation in other units': (
        [statistics(tiny.STATE_FILE, **{f'{STATE}.std': lambda t: t * 180 / 3.14})],
        ('observation.state.std is', 'column 0', 'not of the same data'),
    ),
    'shape of the state': (
        [step(BEFORE, 'normalizer_processor', features={
            STATE: {'type': 'STATE', 'shape': [5]}, ACTION: tiny.FEATURES[ACTION]})],
        ('observation.state has shape [5]', '8 columns'),
    ),
    'shape of the action': (
        [step(AFTER, 'unnormalizer_processor', features={
            ACTION: {'type': 'ACTION', 'shape': [3]}})],
        (AFTER, 'action has shape [3]', '7 columns'),
    ),
    'action that is a state': (
        [step(AFTER, 'unnormalizer_processor', features={
            ACTION: {'type': 'STATE', 'shape': [7]}})],
        (AFTER, "action has type 'STATE'"),
    ),
    'keys as text': (
        [step(BEFORE, 'normalizer_processor', normalize_observation_keys='observation.state')],
        ('normalize_observation_keys', 'a list'),
    ),
    'no state file': (
        [lambda folder: change_json(folder, AFTER, lambda d: d['steps'][0].pop('state_file'))],
        (AFTER, 'no state_file', 'fine-tuned'),
    ),
    'missing state file': (
        [lambda folder: (folder / tiny.STATE_FILE).unlink()],
        (BEFORE, tiny.STATE_FILE, 'is missing'),
    ),
    'damaged state file': (
        [lambda folder: write(folder, tiny.STATE_FILE, b'no tensors')],
        (tiny.STATE_FILE, 'not a safetensors file'),
    ),
    'state file elsewhere': (
        [state_file(BEFORE, 5, '../stats.safetensors')],
        ("'../stats.safetensors'",),
    ),
    'state file of an absolute path': ([state_file(BEFORE, 5, '/etc/passwd')], ("'/etc/passwd'",)),
    'state file that is a number': ([state_file(BEFORE, 5, 3)], ('state_file is 3',)),
    'statistics of datasets': (
        [under_datasets(tiny.ACTION_FILE, 'so100', 'so101')],
        (tiny.ACTION_FILE, 'so100, so101', '--dataset'),
    ),
    # Relative actions.
    'relative before, not after': ([relative(after=False)], ('is on', 'is off')),
    'relative in the steps, not in config.json': (
        [relative(stated=False)],
        ('use_relative_actions', 'is off'),
    ),
    'relative only in config.json': ([config(use_relative_actions=True)], ('is on', 'missing')),
    'relative to a normalised state': (
        [relative(), normalizer_first],
        ('relative_actions_processor', 'before normalizer_processor'),
    ),
    # Cameras and sizes.
    'names that collide': (
        [lambda f: change_json(f, 'config.json', lambda d: d['input_features'].update(
            {'observation.images.base.0.rgb': {'type': 'VISUAL', 'shape': [3, 224, 224]}}))],
        ('observation.images.base_0_rgb', 'observation.images.base.0.rgb', '--cameras'),
    ),
    'two names for a camera': (
        [step(BEFORE, 'rename_observations_processor', rename_map={
            'observation.images.a': 'observation.images.base_0_rgb',
            'observation.images.b': 'observation.images.base_0_rgb'})],
        ('observation.images.a', 'observation.images.b'),
    ),
    'image of another size': ([config(image_resolution=[256, 256])], ('(256, 256)', '224')),
    'no rows': ([config(chunk_size=0)], ('chunk_size is 0',)),
    'steps as text': ([config(num_inference_steps='10')], ("num_inference_steps is '10'",)),
    'period below zero': ([config(min_period=-1)], ('min_period is -1',)),
    'configuration of openpi': ([config(action_horizon=10)], ('action_horizon', BEFORE)),
    'more actions than the weights take': (
        [lambda folder: change_tensors(folder, narrow)],
        ('7 action columns', '5 at most'),
    ),
    'first layout': (
        [lambda folder: change_tensors(folder, first_layout)],
        ('language_model.model.', 'lerobot before 0.4'),
    ),
}  # fmt: skip


def narrow(stored):
    for name in ('action_in_proj.weight', 'action_out_proj.weight', 'action_out_proj.bias'):
        tensor = stored[name]
        stored[name] = (tensor[:, :5] if name.startswith('action_in') else tensor[:5]).contiguous()


def first_layout(stored):
    for name in list(stored):
        new = name.replace('paligemma.model.language_model.', 'paligemma.language_model.model.')
        stored[new] = stored.pop(name)


@pytest.mark.parametrize('name', FAULTS)
def test_faults_of_lerobot_folders(name, refusal):
    changes, words = FAULTS[name]
    message = refusal('lerobot', *changes)
    for word in words:
        assert word in message


def test_the_unchanged_folders_are_opened(originals):
    for kind, (folder, options) in originals.items():
        opened = open_released(folder, options).config
        assert opened.preprocessing == kind and opened.cameras == tiny.CAMERAS


def test_settings_that_change_nothing_are_read(broken):
    folder, options = broken(
        'lerobot',
        step(BEFORE, 'tokenizer_processor', padding='longest', max_length=20),
        insert(BEFORE, 0, 'to_batch_processor_observation'),
        step(BEFORE, 'normalizer_processor', normalize_observation_keys=[STATE]),
    )
    assert open_released(folder, options).config.text_length == 20


def test_a_mode_that_only_config_json_has_is_used(broken):
    def remove(data):
        del data['steps'][-1]['config']['norm_map']

    folder, options = broken(
        'lerobot',
        *both_modes(STATE='MIN_MAX'),
        lambda folder: change_json(folder, BEFORE, remove),
    )
    assert open_released(folder, options).statistics['lerobot']['state']['mode'] == 'MIN_MAX'


def test_action_statistics_are_the_postprocessors_and_state_statistics_the_preprocessors(broken):
    folder, options = broken(
        'lerobot',
        statistics(tiny.ACTION_FILE, **{f'{ACTION}.mean': lambda t: t + 0.01}),
        statistics(tiny.STATE_FILE, **{f'{STATE}.mean': lambda t: t + 0.02}),
    )
    found = open_released(folder, options).statistics['lerobot']
    usual = tiny.statistics()
    assert np.allclose(found['action']['mean'], usual[f'{ACTION}.mean'] + 0.01)
    assert np.allclose(found['state']['mean'], usual[f'{STATE}.mean'] + 0.02)


def test_statistics_of_the_chosen_dataset_are_used(broken):
    folder, options = broken(
        'lerobot',
        under_datasets(tiny.ACTION_FILE, 'so100', 'so101'),
        under_datasets(tiny.STATE_FILE, 'so100', middle=''),
    )
    opened = open_released(folder, replace(options, dataset='so100'))
    assert opened.config.dataset == 'so100'
    mean = opened.statistics['so100']['action']['mean']
    assert np.allclose(mean, tiny.statistics()[f'{ACTION}.mean'])
    with pytest.raises(UserError, match='so100'):
        open_released(folder, replace(options, dataset='so101'))


def test_the_dataset_is_the_one_that_lerobot_trained_on(broken):
    folder, options = broken('lerobot')
    (folder / 'train_config.json').write_text(json.dumps({'dataset': {'repo_id': 'me/cups'}}))
    assert open_released(folder, options).config.dataset == 'me/cups'


def test_states_without_normalisation_need_no_statistics(broken):
    folder, options = broken(
        'lerobot',
        *both_modes(STATE='IDENTITY', ACTION='IDENTITY'),
        lambda folder: change_json(folder, BEFORE, lambda d: d['steps'][-1].pop('state_file')),
        lambda folder: change_json(folder, AFTER, lambda d: d['steps'][0].pop('state_file')),
    )
    opened = open_released(folder, options)
    assert opened.statistics['lerobot']['state']['columns'] == tiny.STATES
    assert opened.config.action[0].low is None


# Relative actions.


def test_relative_columns_are_all_but_the_excluded_by_lerobots_rule(broken):
    folder, options = broken('lerobot', relative(exclude=('G', 'x')))
    opened = open_released(folder, replace(options, **POSITIONS))
    assert opened.config.relative_actions == (True,) * 6 + (False,)
    folder, options = broken('lerobot', relative(names=(), exclude=('g',)))
    opened = open_released(folder, replace(options, **POSITIONS))
    assert opened.config.relative_actions == (True,) * 7, 'lerobot excludes by names alone'


def test_ranges_of_relative_actions_are_those_of_state_and_offset(broken):
    folder, options = broken('lerobot', relative())
    opened = open_released(folder, replace(options, **POSITIONS))
    state, action = opened.config.state[0], opened.config.action[0]
    stats = tiny.statistics()
    low = stats[f'{ACTION}.q01'][0] + stats[f'{STATE}.q01'][0]
    assert action.low == pytest.approx(float(low)) and state.low < action.high
    assert opened.config.action[6].low == pytest.approx(float(stats[f'{ACTION}.q01'][6]))


def test_relative_actions_in_another_unit_than_the_state_are_refused(refusal):
    units = ('deg', *POSITIONS['state_units'][1:])
    message = refusal('lerobot', relative(), **POSITIONS | {'state_units': units})
    assert 'joint_position.a is an offset from state joint.a' in message and 'deg' in message


def test_relative_actions_of_another_joint_are_refused(refusal):
    names = ('joint.b', 'joint.a', *POSITIONS['state_names'][2:])
    message = refusal('lerobot', relative(), **POSITIONS | {'state_names': names})
    assert 'another joint' in message


def test_options_must_agree_with_lerobots_pipelines(refusal, originals):
    message = refusal('lerobot', relative(), **POSITIONS, relative_actions=())
    assert 'joint_position.a' in message and '--relative-actions: none' in message
    folder, options = originals['lerobot']
    assert not open_released(folder, replace(options, relative_actions=())).config.relative_actions


def test_actions_in_another_order_than_the_training_data_are_refused(refusal):
    names = [f'{name}.pos' for name in reversed(JOINTS)]
    message = refusal('lerobot', config(action_feature_names=names), **POSITIONS)
    assert 'column 0 is joint_position.a' in message and 'g.pos' in message
