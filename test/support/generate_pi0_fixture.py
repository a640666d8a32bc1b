"""
Golden outputs of openpi's PyTorch pi0 on tiny random weights.

Not run in CI. Needs a separate environment (Python 3.11) and openpi's source:

    pip install torch transformers==4.53.2 'numpy<2' pillow safetensors
    cp -r OPENPI/src/openpi/models_pytorch/transformers_replace/* \
        ENVIRONMENT/lib/python3.11/site-packages/transformers/
    cd test && python -m support.generate_pi0_fixture OPENPI fixtures

where OPENPI is a checkout of Physical-Intelligence/openpi. Its JAX configuration module is
replaced by the tiny sizes, its augmentation module by nothing.
"""

from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
from safetensors.torch import save_file
import torch

from support import tiny_pi0 as tiny
from support import tiny_released


def build(source: Path):
    """Build PI0Pytorch with tiny sizes and the tiny weights."""
    sys.path[:0] = [str(source / 'src'), str(source / 'packages/openpi-client/src')]
    sizes = {'gemma_2b': tiny.LANGUAGE, 'gemma_300m': tiny.EXPERT}
    gemma = ModuleType('openpi.models.gemma')
    gemma.get_config = lambda variant: SimpleNamespace(**sizes[variant])
    models = ModuleType('openpi.models')
    models.gemma = gemma
    sys.modules |= {
        'openpi.models': models,
        'openpi.models.gemma': gemma,
        'openpi.shared.image_tools': MagicMock(),
    }
    from openpi.models_pytorch import gemma_pytorch, pi0_pytorch

    mapping = gemma_pytorch.CONFIG_MAPPING

    def small_vision():
        config = mapping['paligemma']()
        config.vision_config.num_hidden_layers = 1
        return config

    gemma_pytorch.CONFIG_MAPPING = {'paligemma': small_vision, 'gemma': mapping['gemma']}
    model = pi0_pytorch.PI0Pytorch(
        SimpleNamespace(
            pi05=False,
            paligemma_variant='gemma_2b',
            action_expert_variant='gemma_300m',
            dtype='float32',
            action_dim=tiny.COLUMNS,
            action_horizon=tiny.HORIZON,
            pytorch_compile_mode=None,
        )
    )
    inner = model.paligemma_with_expert.paligemma
    tiny.shrink_vision(inner.model)
    stored = tiny.tensors()
    head = stored[f'{tiny.PREFIX}paligemma.lm_head.weight']
    full = torch.zeros_like(inner.lm_head.weight)
    full[: tiny.VOCABULARY] = head
    for name in ('lm_head', 'model.language_model.embed_tokens'):
        stored[f'{tiny.PREFIX}paligemma.{name}.weight'] = full
    missing, unexpected = model.load_state_dict(stored, strict=False)
    unused = [name for name in missing if 'gemma_expert.lm_head' not in name]
    if unused or unexpected:
        raise SystemExit(f'tiny_pi0.py and the official class disagree: {unused} {unexpected}')
    torch.set_float32_matmul_precision('highest')  # building lowered it to 'high'
    return model.eval()


def main():
    """Write pi0.safetensors."""
    source, out = map(Path, sys.argv[1:])
    model = build(source)
    from openpi_client.image_tools import resize_with_pad

    picture = tiny_released.image()
    pictures = [picture, np.ascontiguousarray(picture[::-1, ::-1])]
    pixels = torch.from_numpy(np.stack([resize_with_pad(p, 224, 224) for p in pictures]))
    scaled = pixels.permute(0, 3, 1, 2).float() / 255 * 2 - 1
    keys = (*tiny.CAMERAS, 'right_wrist_0_rgb')
    images = dict(zip(keys, [scaled[:1], scaled[1:], torch.full_like(scaled[:1], -1)]))
    stats = tiny.statistics()
    state = torch.zeros(1, tiny.COLUMNS)
    state[0, : tiny.STATES] = (
        torch.from_numpy(tiny.state()) - stats['observation.state.mean']
    ) / (stats['observation.state.std'] + 1e-6)
    prompt = torch.zeros(1, 48, dtype=torch.long)
    prompt[0, : len(tiny.PROMPT_IDS)] = torch.tensor(tiny.PROMPT_IDS)
    observation = SimpleNamespace(
        images=images,
        image_masks=dict(
            zip(keys, [torch.tensor([True]), torch.tensor([True]), torch.tensor([False])])
        ),
        state=state,
        tokenized_prompt=prompt,
        tokenized_prompt_mask=torch.arange(48)[None] < len(tiny.PROMPT_IDS),
        token_ar_mask=None,
        token_loss_mask=None,
    )
    noise = torch.randn(1, tiny.HORIZON, tiny.COLUMNS, generator=torch.Generator().manual_seed(0))
    seen = []
    step = model.denoise_step
    model.denoise_step = lambda *a: seen.append(step(*a)) or seen[-1]
    with torch.inference_mode():
        features = model.paligemma_with_expert.embed_image(scaled)
        sample = model.sample_actions('cpu', observation, noise=noise, num_steps=10)
    if len(seen) != 10:
        raise SystemExit(f'{len(seen)} steps, expected 10')
    actions = sample[0, :, : tiny.ACTIONS] * (stats['action.std'] + 1e-6) + stats['action.mean']
    save_file(
        {
            'pixels': pixels.permute(0, 3, 1, 2)[:1].contiguous(),
            'features': features[:, ::32].contiguous(),
            'velocity': seen[0].contiguous(),
            'sample': sample,
            'actions': actions,
        },
        out / 'pi0.safetensors',
    )


if __name__ == '__main__':
    main()
