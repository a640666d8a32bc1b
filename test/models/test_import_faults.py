"""Faults of released checkpoints: each is refused in one line before weights are copied."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import import_policy

from support import tiny_pi0, tiny_released
from support.broken_checkpoint import (
    change_json,
    change_pt,
    change_tensors,
    copy_of,
    write,
    write_pointer,
    write_single,
)

LAYER = 'language_model.model.layers.0.'
VLM = 'paligemma_with_expert.paligemma.'
EXPERT = 'paligemma_with_expert.gemma_expert.model.layers.'
ACTION = tiny_released.STATISTICS['tiny_dataset']['action']
STATISTICS, WEIGHTS = 'dataset_statistics.json', 'model.safetensors'


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp('originals')
    return {
        family: (root / family, write_single(family, root / family))
        for family in ('openvla', 'cogact', 'pi0')
    }


@pytest.fixture
def refusal(originals, tmp_path):
    """Return a function that breaks a copy of a checkpoint and returns what import says."""

    def run(family, fault):
        folder, usual = originals[family]
        copy = copy_of(folder, tmp_path / 'source')
        fault(copy)
        with pytest.raises(UserError) as caught:
            import_policy(copy, tmp_path / 'out', usual)
        assert [path.name for path in tmp_path.iterdir()] == ['source']
        message = str(caught.value)
        assert '\n' not in message
        return message

    return run


def tensors(**changes):
    """Replace tensors; a value is a function of the tensor, or a new one."""

    def edit(stored):
        for name, change in changes.items():
            stored[name] = change(stored[name]) if callable(change) else change

    return lambda folder: change_tensors(folder, edit)


def tensor(name, change):
    return tensors(**{name: change})


def config(**fields):
    return lambda folder: change_json(folder, 'config.json', lambda data: data.update(fields))


def text_config(**fields):
    return lambda folder: change_json(
        folder, 'config.json', lambda data: data['text_config'].update(fields)
    )


def action_statistics(**fields):
    return lambda folder: write(
        folder,
        STATISTICS,
        json.dumps({'tiny': {'action': ACTION | fields}}),
    )


def preprocessor(**fields):
    return lambda folder: change_json(
        folder, 'preprocessor_config.json', lambda data: data.update(fields)
    )


def file(name, content=''):
    return lambda folder: write(folder, name, content)


def pointer(name):
    return lambda folder: write_pointer(folder, name)


def bitsandbytes(folder):
    def edit(stored):
        for name in [n for n in stored if n.startswith(LAYER) and n.endswith('_proj.weight')]:
            stored[f'{name}.absmax'] = torch.zeros(64)
            stored[name] = torch.zeros(stored[name].numel() // 2, 1, dtype=torch.uint8)

    change_tensors(folder, edit)


def stale_index(folder):
    names = load_file(folder / WEIGHTS)
    save_file(names, folder / 'model-00001-of-00001.safetensors')
    index = {'weight_map': dict.fromkeys(names, 'model-00001-of-00001.safetensors')}
    write(folder, f'{WEIGHTS}.index.json', json.dumps(index))


def weight_map(target):
    def fault(folder):
        names = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).rename(folder / 'old')
        index = {'weight_map': dict.fromkeys(names, target)}
        write(folder, f'{WEIGHTS}.index.json', json.dumps(index))

    return fault


def shard_that_links_out(folder):
    weight_map('model-00001-of-00001.safetensors')(folder)
    (folder / 'model-00001-of-00001.safetensors').symlink_to('/etc/hostname')


def adapter_only(folder):
    (folder / WEIGHTS).unlink()
    write(folder, 'adapter_config.json', '{}')


def pickled_only(folder):
    (folder / WEIGHTS).rename(folder / 'pytorch_model.bin')


def pi05(stored):
    for name in [n for n in stored if n.startswith(EXPERT) and 'layernorm' in n]:
        stored[name.replace('.weight', '.dense.weight')] = stored.pop(name)


def longer_expert(stored):
    for name in [n for n in stored if n.startswith(f'{EXPERT}2.')]:
        stored[name.replace(f'{EXPERT}2.', f'{EXPERT}3.')] = stored[name].clone()


FAULTS = {
    # Tensors that are left over, missing, or of a type that holds no plain weights.
    'LoRA beside base weights': (
        'openvla',
        tensor(f'{LAYER}self_attn.q_proj.lora_A.weight', torch.ones(8, 64)),
        ('q_proj.lora_A.weight', 'merge the LoRA'),
    ),
    'LoRA on a part that is not used': (
        'openvla',
        tensor('vision_backbone.featurizer.blocks.2.attn.qkv.lora_A.weight', torch.ones(8, 64)),
        ('blocks.2.attn.qkv.lora_A.weight', 'merge the LoRA'),
    ),
    'attention biases': (
        'openvla',
        tensor(f'{LAYER}self_attn.q_proj.bias', torch.ones(64)),
        (f'{LAYER}self_attn.q_proj.bias',),
    ),
    'attention biases by the configuration': (
        'openvla',
        text_config(attention_bias=True),
        ('attention_bias is True',),
    ),
    'query and key norms': (
        'openvla',
        tensor(f'{LAYER}self_attn.q_norm.weight', torch.ones(16)),
        (f'{LAYER}self_attn.q_norm.weight',),
    ),
    'more layers than the configuration says': (
        'openvla',
        text_config(num_hidden_layers=2),
        ('num_hidden_layers is 2', 'have 3'),
    ),
    'a layer is left out': (
        'openvla',
        lambda folder: change_tensors(
            folder, lambda stored: {n: t for n, t in stored.items() if '.layers.1.' not in n}
        ),
        ('language_model.model.layers.1',),
    ),
    'extra tensor in the head': (
        'cogact',
        lambda folder: change_pt(
            folder,
            'checkpoints/tiny.pt',
            lambda groups: groups['action_model'].update(
                {'net.blocks.0.cross.weight': torch.ones(4, 4)}
            ),
        ),
        ('action_model.net.blocks.0.cross.weight',),
    ),
    'a number among the tensors': (
        'cogact',
        lambda folder: change_pt(
            folder, 'checkpoints/tiny.pt', lambda groups: groups['action_model'].update(step=3)
        ),
        ('action_model.step is int',),
    ),
    'no head': (
        'cogact',
        lambda folder: change_pt(
            folder, 'checkpoints/tiny.pt', lambda groups: groups.pop('action_model')
        ),
        ('no action_model', 'convert_openvla_weights_to_hf'),
    ),
    'pi0.5 that says pi0': (
        'pi0',
        lambda folder: change_tensors(folder, pi05),
        ('layernorm.dense.weight', 'pi0.5'),
    ),
    'longer expert': (
        'pi0',
        lambda folder: change_tensors(folder, longer_expert),
        ('expert has 4 layers, the language model 3',),
    ),
    'two embeddings that differ': (
        'pi0',
        tensor(f'{VLM}model.language_model.embed_tokens.weight', torch.zeros(512, 64)),
        ('embed_tokens.weight and', 'lm_head.weight differ'),
    ),
    'statistics among the weights': (
        'pi0',
        tensor('normalize_inputs.buffer_observation_state.mean', torch.zeros(8)),
        ('normalize_inputs.buffer_observation_state.mean', 'lerobot before 0.4'),
    ),
    'float64': (
        'openvla',
        tensor('projector.fc1.weight', torch.Tensor.double),
        ('projector.fc1.weight is float64', '--dtype'),
    ),
    'fp8': (
        'openvla',
        tensor('projector.fc1.weight', lambda t: t.to(torch.float8_e4m3fn)),
        ('projector.fc1.weight is float8_e4m3fn', 'dequantize'),
    ),
    'int8': (
        'openvla',
        tensor('projector.fc1.weight', lambda t: t.to(torch.int8)),
        ('projector.fc1.weight is int8', 'dequantize'),
    ),
    'bool': ('openvla', tensor('projector.fc1.bias', torch.Tensor.bool), ('bias is bool',)),
    'complex': (
        'openvla',
        tensor('projector.fc1.bias', lambda t: t.to(torch.complex64)),
        ('projector.fc1.bias is ', 'expected float32'),
    ),
    'bitsandbytes': (
        'openvla',
        bitsandbytes,
        ('proj.weight is uint8', 'bitsandbytes', 'dequantize'),
    ),
    'NaN in a weight': (
        'openvla',
        tensor('projector.fc1.bias', lambda t: t.index_fill(0, torch.tensor([2]), torch.nan)),
        ('projector.fc1.bias', 'NaN', 'download it again'),
    ),
    # Files.
    'weights are a pointer': ('openvla', pointer(WEIGHTS), (WEIGHTS, 'git lfs pull')),
    'tokenizer is a pointer': ('openvla', pointer('tokenizer.json'), ('git lfs pull',)),
    'pt file is a pointer': ('cogact', pointer('checkpoints/tiny.pt'), ('git lfs pull',)),
    'statistics are a pointer': ('cogact', pointer(STATISTICS), (STATISTICS, 'git lfs pull')),
    'stale index': ('openvla', stale_index, (WEIGHTS, 'model-00001-of-00001', 'two sets')),
    'index leaves the folder': ('openvla', weight_map('../x.safetensors'), ('../x.safetensors',)),
    'index with an absolute path': ('openvla', weight_map('/x'), ("'/x'", 'same folder')),
    'index with a number': ('openvla', weight_map(3), ('in 3,', 'same folder')),
    'index with a list': ('openvla', weight_map([WEIGHTS]), ('same folder',)),
    'shard that links out': ('openvla', shard_that_links_out, ('a link out of the folder',)),
    'missing shards': ('openvla', weight_map('a.safetensors'), ('a.safetensors: no such file',)),
    'pickled weights': ('openvla', pickled_only, ('pytorch_model.bin', 'safe_serialization')),
    'damaged pt file': ('cogact', file('checkpoints/tiny.pt', b'\x80\x02}q'), ('tiny.pt',)),
    # Folders of another model, or of two.
    'OpenVLA-OFT': (
        'openvla',
        file('action_head--150000_checkpoint.pt'),
        ('OpenVLA-OFT', 'action_head--150000_checkpoint.pt'),
    ),
    'OpenVLA-OFT by its code': (
        'openvla',
        file('modeling_prismatic.py', 'from constants import NUM_ACTIONS_CHUNK'),
        ('OpenVLA-OFT', 'modeling_prismatic.py'),
    ),
    'adapter only': ('openvla', adapter_only, ('only a LoRA adapter', 'merge it')),
    'adapter beside weights': (
        'openvla',
        file('adapter_config.json', '{}'),
        (WEIGHTS, 'adapter_config.json'),
    ),
    'two CogACT checkpoints': (
        'cogact',
        lambda folder: shutil.copy(
            folder / 'checkpoints/tiny.pt', folder / 'checkpoints/step-2.pt'
        ),
        ('2 files', 'expected one'),
    ),
    'pi0 files in an OpenVLA folder': (
        'pi0',
        file('modeling_prismatic.py'),
        ('two checkpoints', 'OpenVLA', 'lerobot'),
    ),
    'configuration of two models': (
        'pi0',
        config(model_type='openvla'),
        ("type 'pi0'", "model_type 'openvla'"),
    ),
    # Configuration.
    'layers as text': ('openvla', text_config(num_hidden_layers='3'), ("is '3'", 'whole number')),
    'negative layers': ('openvla', text_config(num_hidden_layers=-1), ('is -1', 'whole number')),
    'zero heads': ('openvla', text_config(num_attention_heads=0), ('num_attention_heads is 0',)),
    'fraction of a layer': ('openvla', text_config(num_hidden_layers=3.0), ('is 3.0',)),
    'huge width': ('openvla', text_config(hidden_size=2**31), ('hidden_size', '64')),
    'huge vocabulary': ('openvla', text_config(vocab_size=10**12), ('vocab_size',)),
    'heads that do not divide': ('openvla', text_config(num_attention_heads=7), ('7',)),
    'another head width': ('openvla', text_config(head_dim=40), ('head_dim 40',)),
    'rope_parameters of transformers 5': (
        'openvla',
        text_config(rope_parameters={'rope_theta': 5e5, 'rope_type': 'default'}),
        ('rope_parameters', '500000'),
    ),
    'scaled rope_parameters': (
        'openvla',
        text_config(rope_parameters={'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 1e4}),
        ('rope_parameters', 'linear'),
    ),
    'wider state than the weights take': ('pi0', config(max_state_dim=64), ('max_state_dim',)),
    'features as a list': ('pi0', config(input_features=[[1]]), ('input_features is [[1]]',)),
    'way of normalising as a list': (
        'pi0',
        config(normalization_mapping={'STATE': [], 'ACTION': 'MEAN_STD', 'VISUAL': 'IDENTITY'}),
        ('STATE is []',),
    ),
    'text_config as a list': ('openvla', config(text_config=[1]), ('text_config is [1]',)),
    'no bins': ('openvla', config(n_action_bins=0), ('n_action_bins is 0',)),
    'padding null': ('openvla', config(pad_to_multiple_of=None), ('pad_to_multiple_of',)),
    'images of another size': (
        'openvla',
        preprocessor(input_sizes=[[3, 384, 384]] * 2),
        ('input_sizes', '224'),
    ),
    'resized by the transforms': (
        'openvla',
        preprocessor(tvf_resize_params=[{'size': [384, 384], 'interpolation': 3}] * 2),
        ('tvf_resize_params[0].size', '[224, 224]'),
    ),
    'another filter of the transforms': (
        'openvla',
        preprocessor(tvf_resize_params=[{'size': [224, 224], 'interpolation': 2}] * 2),
        ('tvf_resize_params[0].interpolation', '3'),
    ),
    'normalised otherwise by the transforms': (
        'openvla',
        preprocessor(tvf_normalize_params=[{'mean': [0.5] * 3, 'std': [0.5] * 3}] * 2),
        ('tvf_normalize_params[0].mean',),
    ),
    'transforms of one tower': (
        'openvla',
        preprocessor(tvf_crop_params=[{'output_size': [224, 224]}]),
        ('tvf_crop_params', 'each tower'),
    ),
    'another image processor': (
        'openvla',
        preprocessor(image_processor_type='SiglipImageProcessor'),
        ('image_processor_type', 'PrismaticImageProcessor'),
    ),
    'ends of other data than the quantiles': (
        'openvla',
        action_statistics(min=[5.0] * 7, max=[6.0] * 7),
        ('action.q01 is', 'column 0', 'not of the same data'),
    ),
    'rows of the past': (
        'cogact',
        lambda folder: change_json(
            folder, 'config.json', lambda data: data['vla'].update(past_action_window_size=3)
        ),
        ('past_action_window_size is 3',),
    ),
    'other resizing': ('openvla', preprocessor(interpolations=['bilinear'] * 2), ('bicubic',)),
    'means as text': ('openvla', preprocessor(means=['abc', 'abc']), ('means and stds',)),
    'no image statistics': (
        'openvla',
        lambda folder: (folder / 'preprocessor_config.json').unlink(),
        ('preprocessor_config.json: no such file', 'copy that of the base model'),
    ),
    'other window than the head has': (
        'cogact',
        lambda folder: change_json(
            folder, 'config.json', lambda data: data['vla'].update(future_action_window_size=31)
        ),
        ('future_action_window_size is 31', '16 rows'),
    ),
    # Statistics.
    'no q99': ('openvla', action_statistics(q99=None), ('action.q99: missing',)),
    'fewer columns': ('openvla', action_statistics(q99=[1.0] * 6), ('action.q99: 6 values',)),
    'NaN': ('openvla', action_statistics(q01=[float('nan')] * 7), ('action.q01 is nan',)),
    'infinity': ('cogact', action_statistics(q99=[float('inf')] * 7), ('action.q99 is inf',)),
    'swapped': (
        'openvla',
        action_statistics(q01=[0.5] * 7, q99=[-0.5] * 7),
        ('q01 is above q99 in column 0',),
    ),
    'short mask': ('openvla', action_statistics(mask=[True] * 3), ('action.mask', '7 times')),
    'mask of words': ('openvla', action_statistics(mask=['False'] * 7), ('action.mask',)),
    'numbers as text': ('openvla', action_statistics(q01=['a'] * 7), ("q01 is 'a' in column 0",)),
    # Tokenizers.
    "Gemma's tokenizer": (
        'openvla',
        lambda folder: ((folder / 'tokenizer.json').unlink(), tiny_pi0.write_tokenizer(folder)),
        ('tokenizer.json', 'Llama 2', '--tokenizer'),
    ),
    "Llama's tokenizer": (
        'pi0',
        lambda folder: (
            (folder / 'tokenizer.json').unlink(),
            tiny_released.write_llama_tokenizer(folder),
        ),
        ("'<bos>' has id None, expected 2", 'PaliGemma'),
    ),
    'word separator of another vocabulary': (
        'openvla',
        lambda folder: change_json(
            folder, 'tokenizer.json', lambda data: data['model']['vocab'].update({'▁': 28705})
        ),
        ('has id 28705, expected 29871',),
    ),
    'text in lower case': (
        'openvla',
        lambda folder: change_json(
            folder, 'tokenizer.json', lambda data: data.update(normalizer={'type': 'Lowercase'})
        ),
        ("'Pick  up' becomes 'pick", 'normalizer'),
    ),
    'spaces that are dropped': (
        'pi0',
        lambda folder: change_json(
            folder, 'tokenizer.json', lambda data: data['normalizer'].update(content='')
        ),
        ("'Pick  up' becomes", 'PaliGemma'),
    ),
    'ids that the model has no embedding for': (
        'openvla',
        lambda folder: change_json(
            folder, 'tokenizer.json', lambda data: data['model']['vocab'].update(new=40000)
        ),
        ('ids up to 40000', '32064'),
    ),
}


@pytest.mark.parametrize('name', FAULTS)
def test_fault_is_refused_in_one_line(refusal, name):
    family, fault, words = FAULTS[name]
    message = refusal(family, fault)
    assert [word for word in words if word not in message] == [], message


def test_links_of_a_hugging_face_cache_are_followed(originals, tmp_path):
    """Files of a snapshot are links into `blobs`, beside `snapshots`."""
    folder, options = originals['openvla']
    snapshot = copy_of(folder, tmp_path / 'snapshots' / 'revision')
    weight_map('model-00001-of-00001.safetensors')(snapshot)
    (tmp_path / 'blobs').mkdir()
    (snapshot / 'old').rename(tmp_path / 'blobs' / 'sum')
    (snapshot / 'model-00001-of-00001.safetensors').symlink_to('../../blobs/sum')
    assert import_policy(snapshot, tmp_path / 'out', options).family == 'OpenVLA'
