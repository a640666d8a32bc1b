"""pi0 folders of openpi, and the number of heads, which no folder says."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from sqap_vla_ros.models.import_policy import open_released

from support import tiny_pi0 as tiny
from support.broken_checkpoint import change_json, change_tensors, write
from support.pi0_folders import BEFORE, config, POSITIONS


def assets(**changes):
    return lambda folder: change_json(
        folder, tiny.ASSETS, lambda data: data['norm_stats'].update(changes)
    )


def second_dataset(folder):
    (folder / 'assets/other').mkdir()
    (folder / 'assets/other/norm_stats.json').write_text((folder / tiny.ASSETS).read_text())


def test_openpi_does_not_say_whether_positions_are_offsets(refusal, originals):
    message = refusal('openpi', **POSITIONS)
    assert 'joint_position.a' in message
    assert '--relative-actions' in message and '--no-relative-actions' in message
    folder, options = originals['openpi']
    options = replace(options, **POSITIONS)
    chosen = replace(options, relative_actions=POSITIONS['action_names'][:6])
    assert open_released(folder, chosen).config.relative_actions == (True,) * 6 + (False,)
    assert not open_released(folder, replace(options, relative_actions=())).config.relative_actions
    message = refusal('openpi', **POSITIONS, relative_actions=('joint_position.z',))
    assert 'joint_position.z' in message


def test_openpi_displacements_may_be_offsets_too(refusal):
    """The policy that openpi trained on LIBERO gives them minus the state."""
    units = ('m',) * 3 + ('rad',) * 3 + ('1',)
    assert '--no-relative-actions' in refusal('openpi', action_units=units)


def test_openpi_has_its_own_number_of_rows(broken):
    folder, options = broken('openpi', config(action_horizon=10))
    opened = open_released(folder, options).config
    assert opened.horizon == 10 and opened.model['chunk_size'] == 10
    assert opened.dataset == 'tiny' and opened.flow_steps == 10


@pytest.mark.parametrize(
    ('changes', 'options', 'words'),
    [
        ([lambda f: write(f, 'config.json', json.dumps(tiny.lerobot_config()))], {},
         ('action_horizon is missing',)),
        ([lambda f: write(f, BEFORE, '{}')], {}, (BEFORE, 'norm_stats.json')),
        ([lambda f: (f / tiny.ASSETS).unlink()], {}, ('norm_stats.json',)),
        ([second_dataset], {}, ('--dataset', 'other, tiny')),
        ([], {'dataset': 'mars'}, ("'mars'", 'tiny')),
        ([], {'cameras': ()}, ('--cameras', 'base_0_rgb')),
        ([], {'cameras': ('left_wrist_0_rgb', 'front')}, ('order of the checkpoint',)),
        ([], {'cameras': ('a', 'a')}, ('a twice',)),
        ([], {'cameras': ('a', 'b', 'c', 'd')}, ('3 cameras', 'names 4')),
        ([], {'letterbox_bars': -3.0}, ('--letterbox-bars', 'before 0.5.0')),
        ([assets(state=None)], {}, ('state is missing',)),
        ([assets(actions={'mean': [0.0] * 7})], {}, ('actions.std is missing',)),
        ([config(action_horizon=0)], {}, ('action_horizon is 0',)),
        ([config(action_dim=24)], {}, ('action_dim is 24', '32')),
        ([config(paligemma_variant='gemma_2b_lora')], {}, ('paligemma_variant', 'merge')),
        ([config(action_expert_variant='gemma_300m_lora')], {}, ('action_expert_variant',)),
        ([], {'cameras': ('a b', 'c')}, ("'a b'", 'no spaces')),
    ],
)  # fmt: skip
def test_faults_of_openpi_folders(changes, options, words, refusal):
    message = refusal('openpi', *changes, **options)
    for word in words:
        assert word in message


def test_openpi_statistics_may_be_padded_to_the_width_of_the_model(broken, refusal):
    def pad(value):
        return lambda folder: change_json(folder, tiny.ASSETS, lambda d: widen(d, value))

    def widen(data, value):
        for entry in data['norm_stats'].values():
            for field in entry:
                entry[field] += [value] * (tiny.COLUMNS - len(entry[field]))

    folder, options = broken('openpi', pad(0.0))
    assert open_released(folder, options).statistics['tiny']['action']['columns'] == tiny.ACTIONS
    assert '32 columns are in use, but 8 are described' in refusal('openpi', pad(0.5))
    path = folder.parent / 'joints.yaml'
    lines = {
        part: [f'  - {{name: {name}, quantity: position, unit: rad}}' for name in POSITIONS[key]]
        for part, key in (('state', 'state_names'), ('action', 'action_names'))
    }
    parts = [line for part, entries in lines.items() for line in (f'{part}:', *entries)]
    path.write_text('\n'.join(['step_s: 0.1', *parts]))
    bare = dict.fromkeys(('state_names', 'state_units', 'action_names', 'action_units'), ())
    described = replace(options, columns=str(path), relative_actions=(), **bare)
    found = open_released(folder, described).config
    assert len(found.state) == 8 and found.action[0].name == 'joint_position.a'


def test_openpi_chooses_its_cameras_by_name(originals):
    folder, options = originals['openpi']
    chosen = replace(options, cameras=('right_wrist_0_rgb', 'base_0_rgb'))
    assert open_released(folder, chosen).config.cameras == ('base_0_rgb', 'right_wrist_0_rgb')
    named = replace(options, cameras=('front', 'hand'))
    assert open_released(folder, named).config.cameras == ('front', 'hand')


# Heads.


def two_key_heads(stored):
    random = np.random.RandomState(8)
    for name in [n for n in stored if n.endswith(('k_proj.weight', 'v_proj.weight'))]:
        if 'vision_tower' not in name:
            rows = random.randn(*stored[name].shape).astype(np.float32) / 8
            stored[name] = torch.cat([stored[name], torch.from_numpy(rows)])


def test_two_key_heads_are_no_wider_head(broken, refusal):
    """q_proj has 64 rows and k_proj 16: 8 and 2 heads of 8, 4 and 1 of 16, ..."""
    change = lambda folder: change_tensors(folder, two_key_heads)  # noqa: E731
    message = refusal('lerobot', change)
    assert '64 rows and k_proj 16' in message and '--attention-heads' in message
    folder, options = broken('lerobot', change)
    for heads, expected in ((8, (8, 2, 8)), (4, (4, 1, 16))):
        model = open_released(folder, replace(options, attention_heads=heads)).config.model
        for part in (model['dit_config'], model['vlm_config']['text_config']):
            found = (part['num_attention_heads'], part['num_key_value_heads'], part['head_dim'])
            assert found == expected
    assert 'cannot share' in refusal('lerobot', change, attention_heads=7)
