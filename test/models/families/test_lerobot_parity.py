"""A folder that lerobot saved gives the actions that lerobot's own pipelines give."""

import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from sqap_vla_ros.models.import_policy import import_policy
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Continuation, Observation

from support import tiny_lerobot as cases

TOLERANCE = 1e-5
"""Relative to the largest action."""


@pytest.fixture(scope='module')
def golden():
    return {
        name: v.numpy() for name, v in load_file(cases.FIXTURES / 'actions.safetensors').items()
    }


@pytest.fixture(scope='module')
def policies(tmp_path_factory):
    """Import a case and load it, once."""
    loaded = {}

    def load(name):
        if name not in loaded:
            case = next(case for case in cases.CASES if case.name == name)
            folder = tmp_path_factory.mktemp(name)
            cases.write_folder(case, folder / 'released')
            import_policy(folder / 'released', folder / 'policy', case.options())
            loaded[name] = case, load_policy(folder / 'policy')
        return loaded[name]

    return load


def predict(policy, case, given, monkeypatch, continuation=None):
    names = dict(zip(map(case.renamed_from, case.features), case.cameras))
    images = {names[feature]: picture for feature, picture in given.images.items()}
    observation = Observation(images, given.text, given.state, continuation=continuation)
    monkeypatch.setattr(torch, 'randn', lambda *a, **k: torch.from_numpy(given.noise))
    return policy.predict(observation).chunk.values


@pytest.mark.parametrize('name', [case.name for case in cases.CASES])
def test_actions(name, policies, golden, monkeypatch):
    case, policy = policies(name)
    assert policy.spec.cameras == case.cameras
    for index, given in enumerate(cases.inputs(case)):
        wanted = golden[f'{name}.{index}']
        difference = np.abs(predict(policy, case, given, monkeypatch) - wanted).max()
        assert difference <= TOLERANCE * max(1, np.abs(wanted).max())


def test_relative_actions_follow_the_state(policies, monkeypatch):
    case, policy = policies('relative')
    given = cases.inputs(case)[0]
    assert policy.model.config.relative_actions == (True,) * 5 + (False,)
    # The model sees the normalised state, so only a constant model would move by the same amount.
    monkeypatch.setattr(policy.model, 'sample', lambda *a: torch.zeros(1, cases.HORIZON, 32))
    before = predict(policy, case, given, monkeypatch)
    given.state[:] += 1
    after = predict(policy, case, given, monkeypatch)
    assert np.allclose(after - before, [1, 1, 1, 1, 1, 0], atol=1e-5)


def test_bounds_of_relative_actions_are_around_the_mean_state(policies):
    _, policy = policies('relative_degrees')
    low, high = policy.action_bounds()
    offsets = policy.statistics.action_range()
    origin = np.append(policy.typical_state()[:5], 0)
    assert np.allclose(low, offsets[0] + origin) and np.allclose(high, offsets[1] + origin)


@pytest.mark.parametrize('name', ('relative_degrees', 'constant'))
def test_a_continued_chunk_is_kept(name, policies, monkeypatch):
    """Real-time chunking: rows of weight 1 stay where they were, though the arm has moved."""
    case, policy = policies(name)
    given = cases.inputs(case)[0]
    first = predict(policy, case, given, monkeypatch)
    if not case.constant:
        given.state[:] += 3.0
    weights = np.zeros(cases.HORIZON, np.float32)
    weights[:4] = 1
    continued = Continuation(first, weights)
    second = predict(policy, case, given, monkeypatch, continued)
    reach = np.abs(first).max()
    assert np.abs(second[:4] - first[:4]).max() <= 0.05 * reach
