"""
Tiny checkpoints in the released file formats, with weights determined by their names.

Used by the tests and, in another environment, by the fixture generators in this folder; so it
imports only torch, numpy and safetensors. A weight is drawn from NumPy's frozen legacy generator,
seeded with a checksum of its name, so the fixtures store no weights.
"""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
from safetensors.torch import save_file
import torch

VISION = {'embed_dim': 64, 'depth': 3, 'num_heads': 16}
SIGLIP_MLP = 239  # int(64 * 3.7362), as timm computes it for the so400m shape
LLAMA = {
    'model_type': 'llama',
    'hidden_size': 64,
    'intermediate_size': 96,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 4,
    'vocab_size': 32064,
    'pad_token_id': 32000,
}
PREPROCESSOR = {
    'image_processor_type': 'PrismaticImageProcessor',
    'image_resize_strategy': 'resize-naive',
    'input_sizes': [[3, 224, 224]] * 2,
    'interpolations': ['bicubic'] * 2,
    'means': [[0.484375, 0.455078125, 0.40625], [0.5, 0.5, 0.5]],
    'stds': [[0.228515625, 0.2236328125, 0.224609375], [0.5, 0.5, 0.5]],
    'use_fused_vision_backbone': True,
}
HORIZON, ACTIONS = 16, 7
INSTRUCTION = 'Pick up the Red cup'
STATISTICS = {
    'tiny_dataset': {
        'action': {
            'q01': [-0.5, -0.4, -0.3, -0.2, -0.1, -0.6, 0.0],
            'q99': [0.5, 0.6, 0.2, 0.3, 0.4, 0.1, 1.0],
            'mask': [True] * 6 + [False],
        }
    }
}


def weight(name: str, shape: tuple[int, ...], gain: float = 1) -> torch.Tensor:
    """Return float32 values that depend on name and shape alone and keep activations near one."""
    draw = np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    if name.endswith('norm.weight') or name.endswith(('gamma', 'scale_factor')) or '.norm' in name:
        draw = float(name.endswith(('weight', 'gamma', 'scale_factor'))) + 0.2 * draw
    elif len(shape) == 1:
        draw *= 0.2
    elif 'embed' not in name.rsplit('.', 2)[-2]:
        draw *= gain / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(draw, np.float32))


def image(height: int = 480, width: int = 640) -> np.ndarray:
    """uint8 [height, width, 3] with edges, gradients and noise."""
    row, column = np.mgrid[0:height, 0:width]
    planes = np.stack(
        [row * 255 / height, column * 255 / width, 255 * ((row // 40 + column // 40) % 2)], -1
    )
    noise = np.random.RandomState(7).uniform(-20, 20, planes.shape)
    return np.clip(planes + noise, 0, 255).astype(np.uint8)


def vit_shapes(registers: int, mlp: int, scale_name: str | None, pooling: bool) -> dict:
    """Names and shapes of a timm vision transformer."""
    width, depth = VISION['embed_dim'], VISION['depth']
    shapes = {
        'pos_embed': (1, 256, width),
        'patch_embed.proj.weight': (width, 3, 14, 14),
        'patch_embed.proj.bias': (width,),
        'norm.weight': (width,),
        'norm.bias': (width,),
    }
    if registers:
        shapes |= {'cls_token': (1, 1, width), 'reg_token': (1, registers, width)}
    for i in range(depth):
        block = f'blocks.{i}.'
        linears = {
            'attn.qkv': (3 * width, width),
            'attn.proj': (width, width),
            'mlp.fc1': (mlp, width),
            'mlp.fc2': (width, mlp),
        }
        for name, shape in linears.items():
            shapes |= {f'{block}{name}.weight': shape, f'{block}{name}.bias': shape[:1]}
        for name in ('norm1', 'norm2'):
            shapes |= {f'{block}{name}.weight': (width,), f'{block}{name}.bias': (width,)}
        if scale_name:
            shapes |= {f'{block}ls{n}.{scale_name}': (width,) for n in (1, 2)}
    if pooling:
        shapes |= {'attn_pool.latent': (1, 1, width), 'attn_pool.q.weight': (width, width)}
    return shapes


def llama_shapes() -> dict:
    """Names and shapes of LlamaForCausalLM's state dict."""
    width, inner, vocabulary = (
        LLAMA[k] for k in ('hidden_size', 'intermediate_size', 'vocab_size')
    )
    shapes = {
        'model.embed_tokens.weight': (vocabulary, width),
        'model.norm.weight': (width,),
        'lm_head.weight': (vocabulary, width),
    }
    for i in range(LLAMA['num_hidden_layers']):
        layer = f'model.layers.{i}.'
        shapes |= {f'{layer}self_attn.{n}_proj.weight': (width, width) for n in 'qkvo'}
        shapes |= {f'{layer}mlp.{n}_proj.weight': (inner, width) for n in ('gate', 'up')}
        shapes |= {
            f'{layer}mlp.down_proj.weight': (width, inner),
            f'{layer}input_layernorm.weight': (width,),
            f'{layer}post_attention_layernorm.weight': (width,),
        }
    return shapes


def projector_shapes(names: list[str]) -> dict:
    """Names and shapes of a three-layer fused projector."""
    vision, width = 2 * VISION['embed_dim'], LLAMA['hidden_size']
    sizes = [vision, 4 * vision, width, width]
    shapes = {}
    for name, inputs, outputs in zip(names, sizes, sizes[1:]):
        shapes |= {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}
    return shapes


def dit_shapes(width: int = 384, depth: int = 2) -> dict:
    """Names and shapes of CogACT's diffusion transformer."""
    shapes = {
        'positional_embedding': (HORIZON + 1, width),
        'z_embedder.uncondition': (1, LLAMA['hidden_size']),
    }
    linears = {
        'history_embedder.linear': (width, ACTIONS),
        'x_embedder.linear': (width, ACTIONS),
        't_embedder.mlp.0': (width, 256),
        't_embedder.mlp.2': (width, width),
        'z_embedder.linear': (width, LLAMA['hidden_size']),
        'final_layer.linear': (ACTIONS, width),
    }
    for i in range(depth):
        linears |= {
            f'blocks.{i}.attn.qkv': (3 * width, width),
            f'blocks.{i}.attn.proj': (width, width),
            f'blocks.{i}.mlp.fc1': (4 * width, width),
            f'blocks.{i}.mlp.fc2': (width, 4 * width),
        }
    for name, shape in linears.items():
        shapes |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    return shapes


def filled(prefix: str, shapes: dict, gain: float = 1) -> dict[str, torch.Tensor]:
    """Weights for names and shapes, each under `prefix`."""
    return {prefix + name: weight(prefix + name, shape, gain) for name, shape in shapes.items()}


def openvla_tensors() -> dict[str, torch.Tensor]:
    """All tensors of a tiny OpenVLA checkpoint, under their released names."""
    vision = 'vision_backbone.'
    language = filled('language_model.', llama_shapes(), 2)
    # Larger rows make the most likely token an action token, as it is after training.
    language['language_model.lm_head.weight'][31744:32000] *= 3
    return {
        **filled(vision + 'featurizer.', vit_shapes(4, 256, 'scale_factor', False)),
        **filled(vision + 'fused_featurizer.', vit_shapes(0, SIGLIP_MLP, None, True)),
        **filled('projector.', projector_shapes(['fc1', 'fc2', 'fc3'])),
        **language,
    }


def openvla_config() -> dict:
    """config.json of a tiny OpenVLA checkpoint, with the fields of the released one."""
    return {
        'model_type': 'openvla',
        'architectures': ['OpenVLAForActionPrediction'],
        'arch_specifier': 'no-align+fused-gelu-mlp',
        'image_resize_strategy': 'resize-naive',
        'image_sizes': [224, 224],
        'llm_backbone_id': 'llama2-7b-pure',
        'n_action_bins': 256,
        'pad_to_multiple_of': 64,
        'pad_token_id': 32000,
        'text_config': LLAMA,
        'timm_model_ids': [
            'vit_large_patch14_reg4_dinov2.lvd142m',
            'vit_so400m_patch14_siglip_224',
        ],
        'timm_override_act_layers': [None, None],
        'torch_dtype': 'float32',
        'use_fused_vision_backbone': True,
        'vision_backbone_id': 'dinosiglip-vit-so-224px',
        'norm_stats': STATISTICS,
    }


def write_openvla(folder: Path, shards: int = 2):
    """Write a tiny OpenVLA checkpoint as Hugging Face lays it out, in shards."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = openvla_tensors()
    names, index = list(tensors), {}
    for i in range(shards):
        file = f'model-{i + 1:05}-of-{shards:05}.safetensors'
        part = names[i::shards]
        save_file({name: tensors[name] for name in part}, folder / file, {'format': 'pt'})
        index |= dict.fromkeys(part, file)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': index}))
    (folder / 'config.json').write_text(json.dumps(openvla_config()))
    (folder / 'preprocessor_config.json').write_text(json.dumps(PREPROCESSOR))
    write_llama_tokenizer(folder)


def cogact_groups() -> dict[str, dict[str, torch.Tensor]]:
    """Make the groups of a tiny CogACT checkpoint's ['model']."""
    vision = {
        **filled('dino_featurizer.', vit_shapes(4, 256, 'gamma', False)),
        **filled('siglip_featurizer.', vit_shapes(0, SIGLIP_MLP, None, True)),
    }
    layers = projector_shapes(['projector.0', 'projector.2', 'projector.4'])
    head = filled('net.', dit_shapes())
    # A final layer that inverts the embedding estimates roughly the noise in its input, so that
    # samples stay in the range of actions.
    head['net.final_layer.linear.weight'] = (
        head['net.x_embedder.linear.weight'].T.contiguous() * 0.04
    )
    return {
        'vision_backbone': vision,
        'projector': filled('', layers),
        'llm_backbone': filled('llm.', llama_shapes()),
        'action_model': head,
    }


def write_cogact(folder: Path):
    """Write a tiny CogACT checkpoint as its authors lay it out."""
    (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
    torch.save({'model': cogact_groups()}, folder / 'checkpoints' / 'tiny.pt')
    vla = {
        'vla_id': 'tiny',
        'base_vlm': 'prism-dinosiglip-224px+7b',
        'action_dim': ACTIONS,
        'future_action_window_size': HORIZON - 1,
    }
    (folder / 'config.json').write_text(json.dumps({'vla': vla}))
    (folder / 'dataset_statistics.json').write_text(json.dumps(STATISTICS))


def write_llama_tokenizer(folder: Path):
    """
    Write a small tokenizer.json of Llama 2's kind: byte-fallback BPE over `▁`-marked text.

    The real file is gated. The ids that the models rely on (1, 2, 29871) are the same in it.
    """
    words = [
        '▁In',
        ':',
        '▁What',
        '▁action',
        '▁should',
        '▁the',
        '▁robot',
        '▁take',
        '▁to',
        '?',
        '\n',
        'Out',
        '▁pick',
        '▁up',
        '▁red',
        '▁cup',
        '▁blue',
        '▁True',
        '▁False',
        '▁Yes',
        '▁No',
        *(f'▁{chr(ord("A") + i)}' for i in range(26)),
    ]
    vocabulary = {'<unk>': 0, '<s>': 1, '</s>': 2}
    vocabulary |= {f'<0x{byte:02X}>': 3 + byte for byte in range(256)}
    vocabulary['▁'] = 29871
    next_id, merges = 300, []
    for word in words:
        for length in range(1, len(word) + 1):
            for piece in (word[:length], word[length - 1]):
                if piece not in vocabulary:
                    vocabulary[piece], next_id = next_id, next_id + 1
            pair = f'{word[: length - 1]} {word[length - 1]}'
            if length > 1 and pair not in merges:
                merges.append(pair)
    special = [
        {
            'id': i,
            'content': content,
            'single_word': False,
            'lstrip': False,
            'rstrip': False,
            'normalized': False,
            'special': True,
        }
        for content, i in (('<unk>', 0), ('<s>', 1), ('</s>', 2))
    ]
    first = {'SpecialToken': {'id': '<s>', 'type_id': 0}}
    text = {'Sequence': {'id': 'A', 'type_id': 0}}
    tokenizer = {
        'version': '1.0',
        'truncation': None,
        'padding': None,
        'added_tokens': special,
        'normalizer': {
            'type': 'Sequence',
            'normalizers': [
                {'type': 'Prepend', 'prepend': '▁'},
                {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
            ],
        },
        'pre_tokenizer': None,
        'post_processor': {
            'type': 'TemplateProcessing',
            'single': [first, text],
            'pair': [first, text, {'Sequence': {'id': 'B', 'type_id': 1}}],
            'special_tokens': {'<s>': {'id': '<s>', 'ids': [1], 'tokens': ['<s>']}},
        },
        'decoder': None,
        'model': {
            'type': 'BPE',
            'dropout': None,
            'unk_token': '<unk>',
            'continuing_subword_prefix': None,
            'end_of_word_suffix': None,
            'fuse_unk': True,
            'byte_fallback': True,
            'vocab': vocabulary,
            'merges': merges,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tokenizer.json').write_text(json.dumps(tokenizer))
    (folder / 'tokenizer_config.json').write_text(
        json.dumps(
            {
                'tokenizer_class': 'LlamaTokenizer',
                'bos_token': '<s>',
                'eos_token': '</s>',
                'unk_token': '<unk>',
                'add_bos_token': True,
                'add_eos_token': False,
                'legacy': False,
            }
        )
    )
