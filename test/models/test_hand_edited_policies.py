"""Policies whose files somebody edited: a key that is gone takes no default, a copy no effect."""

from dataclasses import dataclass, field
import json

import pytest
import yaml

from sqap_vla_ros import compress, load_recipe
from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.config import build_config, load_config, OPTIONAL
from sqap_vla_ros.models.loading import load_policy

from support.broken_checkpoint import change_json, change_tensors, copy_of, write

CONFIG, STATISTICS = 'config.json', 'dataset_statistics.json'


@pytest.fixture
def refusal(imported, tmp_path):
    """Return a function that edits a JSON file of a policy and returns what loading it says."""

    def run(family, edit, file=CONFIG):
        policy = copy_of(imported[family], tmp_path / f'policy{len(list(tmp_path.iterdir()))}')
        change_json(policy, file, edit)
        with pytest.raises(UserError) as caught:
            load_policy(policy)
        message = str(caught.value)
        assert '\n' not in message and str(policy / file) in message
        return message

    return run


@pytest.mark.parametrize('family', ['openvla', 'cogact', 'pi0'])
def test_no_field_of_a_configuration_takes_a_default(family, imported, refusal):
    for name in json.loads((imported[family] / CONFIG).read_text()):
        if name not in ('model', 'vision', 'model_type'):  # without these it is no policy at all
            assert name in refusal(family, lambda data: data.pop(name))


@pytest.mark.parametrize(
    ('family', 'place', 'name'),
    [
        ('openvla', ('vision', 0), 'image_std'),
        ('openvla', ('vision', 0), 'final_norm'),
        ('openvla', ('vision', 1, 'model'), 'hidden_act'),
        ('openvla', ('vision', 1, 'model'), 'num_attention_heads'),
        ('openvla', ('llama',), 'rms_norm_eps'),
        ('cogact', ('llama',), 'rms_norm_eps'),
        ('cogact', ('action_head',), 'guidance'),
        ('cogact', ('action_head',), 'ddim_steps'),
        ('pi0', ('model',), 'min_period'),
        ('pi0', ('model', 'vlm_config', 'vision_config'), 'num_attention_heads'),
        ('pi0', ('model', 'vlm_config', 'vision_config'), 'image_size'),
        ('pi0', ('model', 'dit_config'), 'rms_norm_eps'),
        ('openvla', ('action', 0), 'frame'),
    ],
)
def test_no_nested_field_takes_a_default(family, place, name, refusal):
    def drop(data):
        for key in place:
            data = data[key]
        del data[name]

    assert name in refusal(family, drop)


@pytest.mark.parametrize(
    ('family', 'fields', 'words'),
    [
        ('cogact', {'binary_actions': ['griper']}, "'griper' is no action"),
        ('openvla', {'token_end': 3}, 'token_end is 3'),
        ('openvla', {'token_end': 99999999}, 'token_end is 99999999'),
        ('openvla', {'action_bins': 99999}, 'action_bins (99999)'),
        ('pi0', {'action_offset': [float('inf')] * 7}, 'action_offset'),
        ('pi0', {'action_scale': [1e300] * 7}, 'action_scale'),
        ('pi0', {'letterbox_bars': float('nan')}, 'letterbox_bars is nan'),
        ('pi0', {'image_size': 112}, 'vision tower reads 224'),
        ('pi0', {'flow_steps': 10**9}, 'flow_steps is 1000000000'),
        ('pi0', {'cameras': ['a b']}, "'a b'"),
        ('pi0', {'action_names': ['x'] * 7, 'action_units': ['m'] * 7}, 'both action and'),
    ],
)
def test_values_that_make_no_sense(family, fields, words, refusal):
    assert words in refusal(family, lambda data: data.update(fields))


@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        (('vision', 0, 'image_std'), [0, 0, 0], 'image_std'),
        (('vision', 0, 'image_mean'), [0.5, 0.5], 'image_mean'),
        (('vision', 0, 'image_mean'), [float('nan')] * 3, 'image_mean'),
        (('action_head', 'guidance'), float('nan'), 'guidance'),
        (('action_head', 'ddim_steps'), 0, 'ddim_steps is 0'),
        (('action_head', 'ddim_steps'), 1000, 'diffusion_steps (100)'),
    ],
)
def test_nested_values_that_make_no_sense(path, value, words, refusal):
    def edit(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    assert words in refusal('cogact', edit)


@pytest.mark.parametrize(('family', 'name'), [('openvla', 'q99'), ('pi0', 'std')])
def test_statistics_without_measure_are_refused(family, name, refusal):
    def edit(data):
        action = next(iter(data.values()))['action']
        action[name] = [1e30] * len(action[name])

    assert 'at most 1e+09' in refusal(family, edit, STATISTICS)


@pytest.mark.parametrize('name', ['mode', 'library', 'epsilon', 'columns'])
def test_statistics_say_how_they_are_used(name, refusal):
    def drop(data):
        del next(iter(data.values()))['action'][name]

    assert f'action.{name} is missing' in refusal('pi0', drop, STATISTICS)


def test_statistics_are_of_the_library_of_the_policy(refusal):
    def edit(data):
        next(iter(data.values()))['action']['library'] = 'openpi'

    message = refusal('pi0', edit, STATISTICS)
    assert "library is 'openpi'" in message and 'lerobot' in message


def test_an_earlier_configuration_may_lack_what_was_added(imported, tmp_path):
    def earlier(data):
        for part in ('state', 'action'):
            columns = data.pop(part)
            data[f'{part}_names'] = [column['name'] for column in columns]
            data[f'{part}_units'] = [column['unit'] for column in columns]
        for name in ('preprocessing', 'letterbox_bars', 'bfloat16_tables', 'relative_actions'):
            del data[name]

    policy = copy_of(imported['pi0'], tmp_path / 'policy')
    change_json(policy, CONFIG, earlier)
    config = load_config(policy)
    assert config.preprocessing == 'openpi' and config.relative_actions == ()
    change_json(policy, CONFIG, lambda data: data.pop('step_s'))
    with pytest.raises(UserError, match='step_s'):
        load_config(policy)


def test_a_family_may_add_a_field_later():
    @dataclass(frozen=True)
    class Later:
        old: int = 1
        new: int = field(default=2, metadata={OPTIONAL: True})

    assert build_config(Later, {'old': 3}) == Later(3, 2)
    with pytest.raises(TypeError, match="'old' of Later is missing"):
        build_config(Later, {'new': 3})


def test_the_recipe_beside_compressed_weights_is_only_a_copy(imported, tmp_path):
    policy = tmp_path / 'compressed'
    compress(imported['pi0'], policy, load_recipe('sqap_w4a4_prune40'))
    load_policy(policy)
    stored = yaml.safe_load((policy / 'recipe.yaml').read_text())
    edited = {**stored, 'pruning': {**stored['pruning'], 'ratio': 0.9}}
    write(policy, 'recipe.yaml', yaml.safe_dump(edited))
    with pytest.raises(UserError, match=r'recipe.yaml: pruning.ratio is 0.9, .* with 0.4'):
        load_policy(policy)
    write(policy, 'recipe.yaml', yaml.safe_dump({**stored, 'pruning': None}))
    with pytest.raises(UserError, match="pruning is 'none'"):
        load_policy(policy)


@pytest.mark.parametrize(
    ('family', 'edit', 'word'),
    [
        ('openvla', lambda data: data.update(normalizer={'type': 'Lowercase'}), "becomes 'pick"),
        ('pi0', lambda data: data['normalizer'].update(content=''), "becomes '"),
        ('openvla', lambda data: data['model']['vocab'].update({'▁': 28705}), 'has id 28705'),
    ],
)
def test_a_tokenizer_that_was_replaced_is_refused(family, edit, word, refusal):
    assert word in refusal(family, edit, 'tokenizer.json')


def checked(policy, capsys, *options):
    """Return the exit code of `sqap_vla check`, and what it said."""
    code = main(['check', str(policy), *options])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_columns_in_another_order_than_their_statistics_fail_the_check(imported, tmp_path, capsys):
    policy = copy_of(imported['openvla'], tmp_path / 'policy')
    change_json(policy, CONFIG, lambda data: data['action'].insert(0, data['action'].pop(2)))
    code, said = checked(policy, capsys)
    assert code == 1
    assert 'FAIL columns: config.json says that linear.z is -0.3 .. 0.2' in said
    assert checked(imported['openvla'], capsys)[0] == 0


def test_the_reference_is_the_same_policy(imported, capsys):
    code, said = checked(imported['pi0'], capsys, '--reference', str(imported['openvla']))
    assert code == 2 and '--reference: ' in said and 'was compressed from' in said


def test_weights_of_several_types_are_no_traceback(imported, tmp_path, capsys):
    policy = copy_of(imported['openvla'], tmp_path / 'policy')
    change_tensors(
        policy, lambda stored: {n: t.bfloat16() if 'norm' in n else t for n, t in stored.items()}
    )
    code, said = checked(policy, capsys)
    assert code == 2 and f'{policy}: cannot be run: ' in said


@pytest.mark.parametrize(
    ('family', 'place', 'fields'),
    [
        ('cogact', ('llama',), {'attn_implementation': 'somebody/kernel'}),
        ('cogact', ('llama',), {'_attn_implementation': 'somebody/kernel'}),
        ('cogact', ('llama',), {'auto_map': {'AutoModel': 'somebody--code.Model'}}),
        ('cogact', ('llama',), {'dtype': 'os'}),
        ('cogact', ('llama',), {'quantization_config': {'quant_method': 'bitsandbytes'}}),
        ('cogact', ('llama',), {'hidden_act': 'somebody'}),
        ('cogact', ('llama',), {'num_hidden_layers': 10**6}),
        ('cogact', ('llama',), {'num_hidden_layers': -1}),
        ('cogact', ('llama',), {'num_hidden_layers': 2.0}),
        ('cogact', ('llama',), {'num_hidden_layers': True}),
        ('cogact', ('llama',), {'hidden_size': 2**40}),
        ('cogact', ('llama',), {'vocab_size': 2**50}),
        ('cogact', ('llama',), {'num_attention_heads': 3}),
        ('cogact', ('llama',), {'num_key_value_heads': 0}),
        ('cogact', ('llama',), {'rms_norm_eps': float('nan')}),
        ('cogact', ('action_head',), {'heads': 0}),
        ('cogact', ('action_head',), {'heads': 7}),
        ('cogact', ('action_head',), {'depth': 10**6}),
        ('cogact', ('action_head',), {'diffusion_steps': 10**9, 'ddim_steps': 10**9}),
        ('cogact', (), {'horizon': 10**9}),
        ('cogact', (), {'text_length': 10**9}),
        ('cogact', (), {'llama': [1]}),
        ('cogact', (), {'model_type': ['cogact']}),
        ('cogact', (), {'cameras': ['a' * 10**5]}),
        ('cogact', (), {'cameras': [str(i) for i in range(10**5)]}),
        ('openvla', ('vision', 0), {'kind': 'somebody'}),
        ('openvla', ('vision', 0), {'drop_last_layers': 10**9}),
        ('openvla', ('vision', 0), {'drop_last_layers': -1}),
        ('openvla', ('vision', 0, 'model'), {'patch_size': 0}),
        ('openvla', ('vision', 0, 'model'), {'attn_implementation': 'somebody/kernel'}),
        ('pi0', ('model',), {'attn_implementation': 'somebody/kernel'}),
        ('pi0', ('model', 'vlm_config'), {'_attn_implementation': 'somebody/kernel'}),
        ('pi0', ('model', 'vlm_config'), {'text_config': [1]}),
        ('pi0', ('model', 'vlm_config', 'vision_config'), {'model_type': 'somebody'}),
        ('pi0', ('model', 'dit_config'), {'auto_map': {}}),
    ],
)
def test_what_is_not_listed_never_reaches_transformers(family, place, fields, imported, tmp_path):
    def edit(data):
        for key in place:
            data = data[key]
        data.update(fields)

    policy = copy_of(imported[family], tmp_path / 'policy')
    change_json(policy, CONFIG, edit)
    with pytest.raises(UserError) as caught:
        load_config(policy)
    message = str(caught.value)
    assert next(iter(fields)).split('_')[0] in message or 'heads' in message
    assert str(policy / CONFIG) in message and '\n' not in message and len(message) < 1100


def test_a_link_out_of_the_policy_is_not_copied(imported, tmp_path):
    policy = copy_of(imported['cogact'], tmp_path / 'policy')
    (tmp_path / 'secret').write_text('secret')
    (policy / 'notes.txt').symlink_to(tmp_path / 'secret')
    with pytest.raises(UserError, match=r'notes\.txt: a link out of the folder'):
        compress(policy, tmp_path / 'output', load_recipe('full'))
    assert not (tmp_path / 'output').exists()


def test_a_snapshot_of_a_hugging_face_cache_compresses(imported, tmp_path):
    blobs, snapshot = tmp_path / 'models--a' / 'blobs', tmp_path / 'models--a' / 'snapshots' / '0'
    copy_of(imported['cogact'], blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f'../../blobs/{path.name}')
    compress(snapshot, tmp_path / 'output', load_recipe('full'))
    copies = list((tmp_path / 'output').iterdir())
    assert copies and not any(path.is_symlink() for path in copies)
    assert load_policy(tmp_path / 'output').describe()['recipe'] == 'full'
