"""Token selection as part of a recorded inference: whatever the recipe, replays choose alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning import coverage
from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.models.cuda_graphs import CudaGraphRunner
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Continuation
from sqap_vla_ros.runtime_options import RuntimeOptions

from support.graph_recorders import TraceRecorder

pytestmark = pytest.mark.slow

PRUNINGS = {
    'none': None,
    'temporal': PruningRecipe(relevance='temporal', smoothing=0.8),
    'attention': PruningRecipe(smoothing=0.5, layer=2),
    'random': PruningRecipe(method='random'),
    'difference': PruningRecipe(relevance='difference', coverage='feature', layer=0),
}


@pytest.fixture
def load(policy_directory, tmp_path, monkeypatch):
    """Load the tiny policy with a pruning recipe, to run directly or to be replayed."""
    monkeypatch.setattr(coverage.cpu, 'available', lambda: False)

    def load(pruning, replayed):
        save_recipe(Recipe('r', QuantizationRecipe(), pruning), tmp_path / 'recipe.yaml')
        policy = load_policy(
            policy_directory,
            recipe=tmp_path / 'recipe.yaml',
            runtime=RuntimeOptions(backend='reference'),
        )
        if replayed:
            policy._runner = CudaGraphRunner(
                policy._step, torch.device('cpu'), TraceRecorder(), True
            )
        return policy

    return load


def observation_at(observation, seed, **changes):
    """Another image and state, a tenth of a second later, the gripper's tip a little on."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return replace(
        observation,
        images={'camera': image},
        stamp_ns=seed * 10**8,
        state=generator.normal(size=4).astype(np.float32),
        end_effector_m=np.array([0.01 * seed, 0.002 * seed**2, 0]),
        **changes,
    )


@pytest.mark.parametrize('pruning', PRUNINGS)
def test_replays_choose_and_answer_as_the_policy_without(pruning, load, observation):
    direct, replayed = (load(PRUNINGS[pruning], which) for which in (False, True))
    continuation = Continuation(
        np.full((4, 2), 0.1, np.float32), np.linspace(1, 0, 4, dtype=np.float32)
    )
    steps = [(seed, 1.0, {}) for seed in range(5)]
    if pruning == 'temporal':
        steps += [(seed, 0.5, {}) for seed in range(5, 8)]
    steps += [(seed, 1.0, {'continuation': continuation}) for seed in range(8, 12)]
    graphs = 0
    for seed, share, changes in steps:
        answers = []
        for policy in (direct, replayed):
            if seed == 10:
                policy.reset()
            policy.set_budget(share)
            answers.append(policy.predict(observation_at(observation, seed, **changes)))
        expected, ours = answers
        np.testing.assert_allclose(ours.chunk.values, expected.chunk.values, rtol=0, atol=1e-5)
        assert (ours.selection is None) == (expected.selection is None)
        if ours.selection is not None:
            np.testing.assert_array_equal(ours.selection.kept, expected.selection.kept)
            np.testing.assert_array_equal(ours.selection.criterion, expected.selection.criterion)
        graphs += 'graph' in ours.latencies_ms
    assert graphs >= 2 and replayed.describe()['runtime'] == 'cuda_graph'


def test_answers_of_a_replay_outlive_the_next_one(load, observation):
    policy = load(PRUNINGS['temporal'], True)
    found = [policy.predict(observation_at(observation, seed)) for seed in range(4)]
    copies = [(f.chunk.values.copy(), f.selection and f.selection.kept.copy()) for f in found]
    policy.predict(observation_at(observation, 9))
    for inference, (values, kept) in zip(found, copies):
        np.testing.assert_array_equal(inference.chunk.values, values)
        if kept is not None:
            np.testing.assert_array_equal(inference.selection.kept, kept)


def test_a_listener_is_heard_at_every_inference(load, observation):
    policy = load(PRUNINGS['temporal'], True)
    for seed in range(4):
        policy.predict(observation_at(observation, seed))
    heard = []
    policy.attention_listener = lambda row, left: heard.append(len(row))
    policy.predict(observation_at(observation, 4))
    assert heard and set(heard) == {38}
