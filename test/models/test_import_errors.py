"""Bad checkpoints get one line that names the file and the key."""

from dataclasses import replace
import json

import pytest
from safetensors.torch import load_file, save_file
import torch

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import import_policy, open_released
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.loading import load_policy

from support import tiny_released as tiny
from support.released_families import write_released


@pytest.fixture
def openvla(tmp_path):
    return tmp_path / 'openvla', write_released('openvla', tmp_path / 'openvla')


@pytest.fixture
def cogact(tmp_path):
    return tmp_path / 'cogact', write_released('cogact', tmp_path / 'cogact')


def message(folder, options=ImportOptions()):
    with pytest.raises(UserError) as caught:
        import_policy(folder, folder.parent / 'out', options)
    text = str(caught.value)
    assert '\n' not in text
    assert not (folder.parent / 'out').exists()
    return text


def change(folder, edit):
    """Apply `edit` to the tensors of the first shard."""
    path = folder / 'model-00001-of-00002.safetensors'
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_wrong_folder(tmp_path):
    assert 'no such folder' in message(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    assert 'no config.json' in message(tmp_path / 'empty')
    (tmp_path / 'empty' / 'config.json').write_text('{"model_type": "bert"}')
    assert "'bert'" in message(tmp_path / 'empty')


def test_released_folder_is_no_policy(openvla, cogact):
    for folder, _ in (openvla, cogact):
        with pytest.raises(UserError, match='sqap_vla import'):
            load_policy(folder)


def test_missing_key(openvla):
    folder, options = openvla
    name = 'projector.fc1.weight'
    change(folder, lambda tensors: tensors.pop(name))
    assert name in message(folder, options)
    index = folder / 'model.safetensors.index.json'
    data = json.loads(index.read_text())
    del data['weight_map'][name]
    index.write_text(json.dumps(data))
    assert f'tensor {name} is missing' in message(folder, options)


def test_missing_shard(openvla):
    folder, options = openvla
    (folder / 'model-00002-of-00002.safetensors').unlink()
    assert 'model-00002-of-00002.safetensors: no such file' in message(folder, options)


def test_truncated_shard(openvla):
    folder, options = openvla
    path = folder / 'model-00002-of-00002.safetensors'
    path.write_bytes(path.read_bytes()[:100000])
    assert 'truncated' in message(folder, options)


def test_wrong_shape(openvla):
    folder, options = openvla
    name = 'projector.fc1.weight'
    change(folder, lambda tensors: tensors.update({name: torch.zeros(3, 4)}))
    text = message(folder, options)
    assert name in text and '(3, 4)' in text


def test_unmerged_adapter(openvla):
    folder, options = openvla
    (folder / 'model.safetensors.index.json').unlink()
    save_file(
        {**tiny.openvla_tensors(), 'base.lora_A.weight': torch.zeros(1)},
        folder / 'model.safetensors',
    )
    assert 'base.lora_A.weight' in message(folder, options)


def test_absent_statistics(openvla, cogact):
    folder, options = openvla
    config = tiny.openvla_config()
    del config['norm_stats']
    (folder / 'config.json').write_text(json.dumps(config))
    assert 'no dataset statistics' in message(folder, options)
    (cogact[0] / 'dataset_statistics.json').unlink()
    assert 'dataset_statistics.json: no such file' in message(*cogact)


def test_unknown_dataset_key(openvla):
    folder, options = openvla
    text = message(folder, replace(options, dataset='mars'))
    assert "'mars'" in text and 'tiny_dataset' in text


def test_ambiguous_dataset_key(openvla):
    folder, options = openvla
    statistics = {**tiny.STATISTICS, 'other': tiny.STATISTICS['tiny_dataset']}
    (folder / 'dataset_statistics.json').write_text(json.dumps(statistics))
    assert '--dataset' in message(folder, options)
    released = open_released(folder, replace(options, dataset='other'))
    assert list(released.statistics) == ['other']


def test_unknown_action_rate(openvla):
    assert '--step-s' in message(openvla[0], replace(openvla[1], step_s=None))


def test_unknown_dataset_without_meaning(openvla):
    text = message(openvla[0], replace(openvla[1], action_units=()))
    assert 'tiny_dataset' in text and '--columns' in text and 'bridge_orig' in text


class Trap:
    """Would run code when unpickled."""

    def __reduce__(self):
        return print, ('unpickled',)


def test_pickle_with_code_is_refused(cogact, capsys):
    folder, options = cogact
    torch.save({'model': Trap()}, folder / 'checkpoints' / 'tiny.pt')
    text = message(folder, options)
    assert 'tiny.pt' in text and 'can run code' in text
    assert 'unpickled' not in capsys.readouterr().out


def test_missing_tokenizer(cogact):
    folder, options = cogact
    (folder / 'tokenizer.json').unlink()
    assert '--tokenizer' in message(folder, options)


def test_command_line_prints_one_line(tmp_path, capsys):
    assert main(['import', str(tmp_path / 'nothing'), str(tmp_path / 'out')]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
