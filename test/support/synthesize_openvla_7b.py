"""
Write a random checkpoint with OpenVLA 7B's real tensor names, shapes and layout (15 GB).

    cd test && python -m support.synthesize_openvla_7b FOLDER

For measuring import and compression at full size without the real weights. Sharded and bfloat16,
like the release; the tokenizer is the small one of the tests. Not run in CI.
"""

import itertools
import json
from pathlib import Path
import sys
from zlib import crc32

import torch

from sqap_vla_ros.models.importers.safetensors_writer import write_safetensors

from support import tiny_released as tiny

SHARDS = 3
SLACK = 4096


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors, from the tiny checkpoint's builders at full size."""
    tiny.LLAMA.update(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
    )
    vision = 'vision_backbone.'
    tiny.VISION.update(embed_dim=1024, depth=24)
    names = {
        f'{vision}featurizer.{k}': v
        for k, v in tiny.vit_shapes(4, 4096, 'scale_factor', False).items()
    }
    tiny.VISION.update(embed_dim=1152, depth=27)
    names |= {
        f'{vision}fused_featurizer.{k}': v for k, v in tiny.vit_shapes(0, 4304, None, True).items()
    }
    sizes = [2176, 8704, 4096, 4096]
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        names |= {
            f'projector.fc{i + 1}.weight': (outputs, inputs),
            f'projector.fc{i + 1}.bias': (outputs,),
        }
    return names | {f'language_model.{k}': v for k, v in tiny.llama_shapes().items()}


def main():
    """Write the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    names = shapes()
    largest = max(torch.Size(shape).numel() for shape in names.values())
    # One pool of random numbers: each tensor is a slice of it.
    pool = torch.empty(largest + SLACK, dtype=torch.bfloat16)
    pool.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))

    def draw(name):
        shape = names[name]
        count = torch.Size(shape).numel()
        if name.endswith(('norm.weight', 'norm1.weight', 'norm2.weight', 'scale_factor')):
            return torch.ones(shape, dtype=torch.bfloat16)
        start = crc32(name.encode()) % SLACK
        return pool[start : start + count].view(shape)

    index = {}
    for i in range(SHARDS):
        file = f'model-{i + 1:05}-of-{SHARDS:05}.safetensors'
        part = {name: (torch.bfloat16, names[name]) for name in list(names)[i::SHARDS]}
        write_safetensors(folder / file, part, draw, {'format': 'pt'})
        index |= dict.fromkeys(part, file)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': index}))
    config = {
        **tiny.openvla_config(),
        'text_config': {
            'model_type': 'llama',
            'pad_token_id': 32000,
            'torch_dtype': 'bfloat16',
            'vocab_size': 32064,
        },
    }
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'preprocessor_config.json').write_text(json.dumps(tiny.PREPROCESSOR))
    tiny.write_llama_tokenizer(folder)


if __name__ == '__main__':
    main()
