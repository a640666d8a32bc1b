"""
A tiny pi0 that always wants the same action, in a folder as lerobot saves it.

Its flow is that of a policy that was trained on one action `a`, in normalised terms: the velocity
is `GAIN (x - a)`. Ten Euler steps of 0.1 therefore lead from any noise to `a`, whatever the
images, the text and the state are. What the arm then does is decided by everything around the
network: normalisation, relative actions, names, units, calibration.

To make the network do that, the layers of the expert add hardly anything to their residual
stream, so that each action token passes them unchanged: `[SIGNAL x, 1]`. The constant 1 in the
last channel is what the final RMSNorm divides by, since the signal is small beside it. `LEAK` of
what attention finds is added, which moves the action by about 0.001: the node refuses a policy
that does not look at its images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import re
import shutil

import numpy as np
from safetensors.torch import save_file
import torch

from support import tiny_lerobot
from support import tiny_pi0 as tiny

GAIN, SIGNAL, LEAK = 10.0, 1e-4, 1e-7
HORIZON = 100
Statistics = Mapping[str, Sequence[float]]
"""'mean', 'std', ... to a value for each column, in the dataset's units."""


@dataclass(frozen=True)
class ConstantPolicy:
    """What a folder says."""

    like: str
    """Name of the folder in fixtures/lerobot whose pipelines are taken."""
    names: tuple[str, ...]
    """Of the action columns, as a lerobot dataset has them: 'shoulder_pan.pos'."""
    action: tuple[float, ...]
    """In normalised terms, what the network gives."""
    action_statistics: Statistics
    state_statistics: Statistics
    cameras: tuple[str, ...] = ('camera',)

    def write(self, folder: Path) -> None:
        """Write configuration, pipelines with their statistics, weights and tokenizer."""
        tiny_lerobot.write_weights(folder, _weights(self.action))
        for path in (tiny_lerobot.FIXTURES / self.like).iterdir():
            shutil.copy(path, folder)
        for file in folder.glob('*.json'):
            if file.name != 'tokenizer.json':
                file.write_text(json.dumps(self._renamed(json.loads(file.read_text()))))
        stored = {
            f'{feature}.{name}': torch.from_numpy(np.array(values, np.float32))
            for feature, found in (
                ('observation.state', self.state_statistics),
                ('action', self.action_statistics),
            )
            for name, values in found.items()
        }
        for file in folder.glob('policy_*.safetensors'):
            save_file(stored, file)

    def _renamed(self, content: dict) -> dict:
        """Put our columns and cameras in the place of those of the fixture."""
        if 'chunk_size' in content:
            content |= {'chunk_size': HORIZON, 'n_action_steps': HORIZON}
            content['action_feature_names'] = list(self.names)
        for holder in (content, *(step['config'] for step in content.get('steps', ()))):
            for key in ('features', 'input_features', 'output_features'):
                if key in holder:
                    holder[key] = self._features(holder[key])
            if 'action_names' in holder:
                holder['action_names'] = list(self.names)
        return content

    def _features(self, features: dict) -> dict:
        visual = next((v for v in features.values() if v['type'] == 'VISUAL'), None)
        shapes = {
            'observation.state': len(next(iter(self.state_statistics.values()))),
            'action': len(self.names),
        }
        named = {f'observation.images.{name}': visual for name in self.cameras if visual}
        return named | {
            name: {**features[name], 'shape': [columns]}
            for name, columns in shapes.items()
            if name in features
        }


def _weights(action: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return tensors, by their names in `tiny_pi0`, that make the flow lead to an action."""
    width = tiny.EXPERT['width']
    assert width == tiny.COLUMNS  # one channel of the expert for each action column
    passing = torch.eye(width)
    passing[-1, -1] = 0
    constant = torch.zeros(width)
    constant[-1] = 1
    wanted = torch.zeros(width)
    wanted[: len(action)] = torch.tensor(action)
    expert = f'{tiny.PREFIX}gemma_expert.model.'
    residual = re.compile(re.escape(expert) + r'layers\.\d+\.(self_attn\.o_proj|mlp\.down_proj)\.')
    silent = {k: LEAK * v for k, v in tiny.tensors().items() if residual.match(k)}
    # SiLU is x / 2 for small x. RMSNorm divides by 1 / sqrt(width), see above.
    return silent | {
        'action_in_proj.weight': SIGNAL * passing,
        'action_in_proj.bias': torch.zeros(width),
        'action_time_mlp_in.weight': torch.cat([passing, torch.zeros(width, width)], 1),
        'action_time_mlp_in.bias': torch.zeros(width),
        'action_time_mlp_out.weight': 2 * passing,
        'action_time_mlp_out.bias': constant,
        f'{expert}norm.weight': torch.zeros(width),
        'action_out_proj.weight': GAIN / (SIGNAL * width**0.5) * passing,
        'action_out_proj.bias': -GAIN * wanted,
    }
