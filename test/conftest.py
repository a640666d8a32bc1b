"""Fixtures that tests of several parts share."""

import os
from pathlib import Path
import signal

import pytest

# Models and inputs of a few thousand weights; markers by folder; no tracebacks.
pytest_plugins = ['support.tiny_fixtures', 'support.markers', 'support.tracebacks']

# Decided when mujoco is imported for the first time, which may be a test that looks for it.
os.environ.setdefault('MUJOCO_GL', 'egl')
# Triton's kernels are tested in its interpreter; decided in the same way, and torch may import it.
os.environ['TRITON_INTERPRET'] = '1'

# nohup has SIGHUP ignored, nodes respect that, and some tests send it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope='session')
def random_policy(tmp_path_factory) -> Path:
    """Make a float policy directory of the shipped shape, with seeded random weights."""
    import json

    from safetensors.torch import save_file
    import torch

    from sqap_vla_ros.models.config import save_config
    from sqap_vla_ros.models.families.cogact.model import CogActModel
    from sqap_vla_ros.training.pipeline import small_config, small_tokenizer

    directory = tmp_path_factory.mktemp('random_policy')
    tokenizer = small_tokenizer('sqap_vla_sim')
    config = small_config('sqap_vla_sim', len(tokenizer))
    torch.manual_seed(0)
    model = CogActModel(config)
    torch.nn.init.normal_(model.action_head.net.final_layer.linear.weight, std=0.05)
    save_config(config, directory)
    tokenizer.save(directory)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, directory / 'model.safetensors'
    )
    statistics = {
        'sqap_vla_sim': {
            'action': {
                'q01': [-0.2] * 3 + [0.0],
                'q99': [0.2] * 3 + [1.0],
                'mask': [True, True, True, False],
            },
            'state': {'mean': [0.0, 0.6, 0.2, 0.5], 'std': [0.1, 0.1, 0.1, 0.5]},
        }
    }
    (directory / 'dataset_statistics.json').write_text(json.dumps(statistics), 'utf-8')
    return directory


@pytest.fixture(scope='session')
def compressed(random_policy, tmp_path_factory, repository):
    """Make a compressed policy of random weights, pruned by 40 %."""
    from sqap_vla_ros.cli import main

    directory = tmp_path_factory.mktemp('compressed') / 'policy'
    recipe = repository / 'config' / 'recipes' / 'sqap_w4a4_prune40.yaml'
    assert main(['compress', str(random_policy), str(directory), '--recipe', str(recipe)]) == 0
    return directory
