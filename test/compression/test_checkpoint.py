"""Compressed policy directories: written, read back, and refused where they are damaged."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch

from sqap_vla_ros.compression.checkpoint import (
    INDEX_FILE,
    load_compressed_into,
    read_header,
    save_compressed,
)
from sqap_vla_ros.compression.compress import compress_model, layer_names
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import load_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models import compress_policy
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.runtime_options import RuntimeOptions

RECIPE = Recipe(
    'test', QuantizationRecipe(targets=('decoder', 'vision', 'action_head')), PruningRecipe()
)
WEIGHTS = 'model.safetensors'


@pytest.fixture
def compressed(policy_directory, tmp_path):
    """Write a compressed policy directory."""
    compress_policy.compress(policy_directory, tmp_path / 'compressed', RECIPE)
    return tmp_path / 'compressed'


def rewrite(directory, tensors=None, **metadata):
    """Replace tensors or metadata of a checkpoint, and nothing else."""
    path = directory / WEIGHTS
    with safe_open(path, 'pt') as file:
        stored = file.metadata()
    contents = load_file(path)
    contents.update(tensors or {})
    contents = {k: v for k, v in contents.items() if v is not None}
    save_file(contents, path, {**stored, **metadata})


def fails(directory, *words):
    """Check that loading fails with one line that has these words; return it."""
    with pytest.raises(UserError) as caught:
        load_policy(directory)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message
    return message


def test_loaded_policy_acts_as_the_one_compressed_in_memory(
    policy_directory, compressed, observation
):
    # Backends round differently, and which one `auto` finds fastest is another one each time.
    from_disk = load_policy(compressed, runtime=RuntimeOptions(backend='reference'))
    in_memory = load_policy(
        policy_directory,
        recipe=compressed / 'recipe.yaml',
        runtime=RuntimeOptions(backend='reference'),
    )
    assert np.array_equal(
        from_disk.predict(observation).chunk.values, in_memory.predict(observation).chunk.values
    )
    ours, theirs = from_disk.describe(), in_memory.describe()
    assert ours['parameter_bytes'] == theirs['parameter_bytes'] < ours['float_parameter_bytes']
    assert ours['float_parameter_bytes'] == theirs['float_parameter_bytes']
    assert ours['weight_bits'] == 4 and ours['activation_bits'] == 4
    assert ours['recipe'] == 'test' and ours['backend']


def test_the_directory_is_a_policy_of_its_own(policy_directory, compressed):
    names = {path.name for path in compressed.iterdir()}
    assert names == {
        'config.json',
        'vocabulary.json',
        'dataset_statistics.json',
        'README.md',
        'recipe.yaml',
        WEIGHTS,
    }
    assert load_recipe(compressed / 'recipe.yaml') == RECIPE
    card = (compressed / 'README.md').read_text('utf-8')
    assert card.startswith('# Tiny\n') and 'recipe `test`' in card


def test_no_float_weight_is_stored_beside_a_packed_one(compressed):
    tensors = load_file(compressed / WEIGHTS)
    layers = read_header(compressed).layers
    assert layers and all(f'{name}.weight' not in tensors for name in layers)
    for name in layers:
        assert tensors[f'{name}.qweight'].dtype == torch.uint8
        assert tensors[f'{name}.wscale'].dtype == torch.float32
        assert tensors[f'{name}.rotation_signs'].dtype == torch.int8


def test_loading_makes_no_float_weight_on_the_way(compressed, model, monkeypatch):
    made = []
    original = QuantLinear.set_codes
    monkeypatch.setattr(
        QuantLinear, 'set_codes', lambda self, *codes: (made.append(codes), original(self, *codes))
    )
    with torch.device('meta'):
        empty = CogActModel(model.config)
    load_compressed_into(empty, compressed)
    empty.restore_buffers()
    assert not made
    assert not any(t.is_meta for t in [*empty.parameters(), *empty.buffers()])


def test_the_same_model_is_written_as_the_same_bytes(model, tmp_path):
    layers = layer_names(model, RECIPE)
    compress_model(model, RECIPE)
    written = set()
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        save_compressed(model, RECIPE, layers, directory, 'base')
        written.add((directory / WEIGHTS).read_bytes())
    assert len(written) == 1


def test_shards_give_the_same_model(model, tmp_path):
    layers = layer_names(model, RECIPE)
    compress_model(model, RECIPE)
    one, many = tmp_path / 'one', tmp_path / 'many'
    for directory, size in ((one, 10**9), (many, 4000)):
        directory.mkdir()
        save_compressed(model, RECIPE, layers, directory, 'base', size)
    assert (many / INDEX_FILE).exists() and not (many / WEIGHTS).exists()
    assert len(list(many.glob('model-*-of-*.safetensors'))) > 3
    loaded = []
    for directory in (one, many):
        with torch.device('meta'):
            empty = CogActModel(model.config)
        assert (
            load_compressed_into(empty, directory).tensors_sha256
            == read_header(one).tensors_sha256
        )
        loaded.append(empty.state_dict())
    assert all(torch.equal(loaded[0][name], loaded[1][name]) for name in loaded[0])
    next(many.glob('model-00002-*')).unlink()
    with torch.device('meta'):
        empty = CogActModel(model.config)
    with pytest.raises(UserError, match='model-00002-of-.*no such file'):
        load_compressed_into(empty, many)


@pytest.fixture
def shards(model, tmp_path):
    """Write compressed weights as shards."""
    layers = layer_names(model, RECIPE)
    compress_model(model, RECIPE)
    (tmp_path / 'shards').mkdir()
    save_compressed(model, RECIPE, layers, tmp_path / 'shards', 'base', 4000)
    return tmp_path / 'shards'


def put_elsewhere(folder):
    index = json.loads((folder / INDEX_FILE).read_text('utf-8'))
    index['weight_map'] = {name: f'/x/{file}' for name, file in index['weight_map'].items()}
    (folder / INDEX_FILE).write_text(json.dumps(index), 'utf-8')


def link_out(folder):
    first = min(folder.glob('model-*-of-*'))
    first.symlink_to(first.rename(folder.parent / first.name))


def add_another_set(folder):
    shutil.copy(min(folder.glob('model-*-of-*')), folder / WEIGHTS)


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (put_elsewhere, "'/x/model-.*same folder"),
        (link_out, 'a link out of the folder'),
        (add_another_set, 'two sets of weights'),  # the hash that is told would be of this one
    ],
)
def test_shards_elsewhere_and_twice_are_refused(shards, change, told):
    read_header(shards)
    change(shards)
    with pytest.raises(UserError, match=told):
        read_header(shards)


@pytest.mark.parametrize('size', [0, 5, 300, -100])
def test_a_truncated_file_is_told(compressed, size):
    path = compressed / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[:size])
    fails(compressed, str(path), 'truncated')


def test_a_foreign_file_is_told(policy_directory, compressed):
    shutil.copy(policy_directory / WEIGHTS, compressed / WEIGHTS)
    fails(compressed, WEIGHTS, 'not a compressed checkpoint')
    (compressed / WEIGHTS).write_text('hello world, these are no tensors at all', 'utf-8')
    fails(compressed, WEIGHTS)


def test_a_newer_version_is_told(compressed):
    rewrite(compressed, format_version='2')
    fails(compressed, WEIGHTS, 'newer', 'update')


def test_a_missing_file_is_told(compressed):
    (compressed / WEIGHTS).unlink()
    fails(compressed, WEIGHTS, 'no such file')


def test_a_flipped_bit_is_told(compressed):
    path = compressed / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    fails(compressed, WEIGHTS, 'hash')


def test_missing_surplus_and_misshapen_tensors_are_named(compressed):
    name = read_header(compressed).layers[0] + '.wscale'
    scale = load_file(compressed / WEIGHTS)[name]
    rewrite(compressed, {name: scale[:-1].clone()})
    fails(compressed, name, 'expected torch.float32')
    rewrite(compressed, {name: scale.int()})
    fails(compressed, name)
    rewrite(compressed, {name: None})
    fails(compressed, name, 'missing')
    rewrite(compressed, {name: scale, 'stowaway': scale.clone()})
    fails(compressed, 'stowaway', 'unexpected')


def test_damaged_metadata_is_told(compressed):
    rewrite(compressed, layers='["no.such.layer"]')
    fails(compressed, 'no.such.layer')
    rewrite(compressed, layers='nonsense')
    fails(compressed, WEIGHTS, 'metadata')
    rewrite(compressed, layers='[]', recipe=json.dumps({'name': 'x', 'temperature': 3}))
    fails(compressed, WEIGHTS, 'temperature')


def test_a_file_of_any_size_beside_the_weights_is_not_copied(policy_directory, tmp_path):
    with open(policy_directory / 'notes.bin', 'wb') as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match='notes.bin: larger than 64 MiB'):
        compress_policy.compress(policy_directory, tmp_path / 'compressed', RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ['float']


def test_a_failed_write_leaves_nothing_behind(policy_directory, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError('no space left on device')

    monkeypatch.setattr('sqap_vla_ros.compression.checkpoint.save_file', full_disk)
    with pytest.raises(UserError, match='compressed: not written: no space left on device'):
        compress_policy.compress(policy_directory, tmp_path / 'compressed', RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ['float']
