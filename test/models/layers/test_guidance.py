"""Chunks that continue the one before: heads that denoise take over its rows."""

import numpy as np
import pytest

from sqap_vla_ros.models.import_policy import import_policy
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Continuation, Observation

from support.released_families import FAMILIES, write_released


@pytest.fixture(scope='module', params=['small', *FAMILIES])
def policy(request, repository, tmp_path_factory):
    """Load the shipped policy, and a tiny one of each released family."""
    if request.param == 'small':
        return load_policy(repository / 'policies' / 'small')
    folder = tmp_path_factory.mktemp(request.param)
    import_policy(
        folder / 'released', folder / 'policy', write_released(request.param, folder / 'released')
    )
    return load_policy(folder / 'policy')


def observe(policy, continuation=None, grey=90):
    spec, state = policy.spec, policy.typical_state()
    return Observation(
        {name: np.full((64, 64, 3), grey, np.uint8) for name in spec.cameras},
        'press the red button',
        state,
        continuation=continuation,
    )


def infer(policy, continuation=None, **change):
    policy.reset()
    return policy.predict(observe(policy, continuation, **change)).chunk.values


def test_fixed_rows_come_out_as_they_were_and_free_ones_as_without(policy):
    horizon, actions = policy.spec.action.horizon, len(policy.spec.action.names)
    # What another image leads to: within the policy's range, and not what this one leads to.
    previous = infer(policy, grey=200)
    weights = np.zeros(horizon, np.float32)
    free = infer(policy, Continuation(previous, weights))
    if not policy.spec.continues:
        weights[:] = 1
        np.testing.assert_array_equal(infer(policy, Continuation(previous, weights)), free)
        return
    np.testing.assert_allclose(free, infer(policy), atol=1e-5)
    weights[: horizon // 2] = 1
    held = infer(policy, Continuation(previous, weights))
    np.testing.assert_allclose(held[: horizon // 2], previous[: horizon // 2], atol=2e-4)
    assert held.shape == (horizon, actions) and np.isfinite(held).all()


def test_the_larger_the_weight_the_nearer_the_rows(policy):
    if not policy.spec.continues:
        pytest.skip('action tokens are written one after another: nothing to inpaint')
    previous, horizon = infer(policy, grey=200), policy.spec.action.horizon
    distances = [
        np.abs(
            infer(policy, Continuation(previous, np.full(horizon, w, np.float32))) - previous
        ).mean()
        for w in (0, 0.3, 1)
    ]
    assert distances[0] > distances[1] > distances[2]
