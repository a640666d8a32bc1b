"""A loaded policy, warmed up and checked, as it runs in a worker process or in a thread."""

from pathlib import Path
import sys
from time import perf_counter

import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import WorkerInfo
from sqap_vla_ros.models.self_test import (
    BLACK,
    check_finite,
    check_image,
    plain_observation,
    WHITE,
)
from sqap_vla_ros.policy import Inference, Observation, Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

WARM_UP_INFERENCES = 3
"""For each image: a pruner that uses earlier steps prunes from the second on."""


class Engine:
    """Owns one policy; one thread at a time."""

    info: WorkerInfo

    def __init__(self, policy: Policy) -> None:
        """
        Warm the policy up and check that it answers and looks at its images.

        Raises:
            UserError: says which check failed.
        """
        self._policy = policy
        dark, warm_up_ms = _warm_up(policy, BLACK)
        bright, _ = _warm_up(policy, WHITE)
        policy.reset()
        checks = [check_finite(dark, bright)]
        if policy.spec.cameras and checks[0].passed:
            checks.append(check_image(dark, bright))
        for check in checks:
            if not check.passed:
                raise UserError(f'self-test: {check.name}: {check.detail}')
        self.info = WorkerInfo(policy.spec, policy.describe(), warm_up_ms)

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Run the policy once.

        Args:
            observation: what it sees.
            reset: forget earlier observations first, because a new task begins.
            budget: see `Policy.set_budget`.

        Raises:
            UserError: the observation lacks something that the policy needs.
            RuntimeError: the device failed or ran out of memory.
        """
        if reset:
            self._policy.reset()
        self._policy.set_budget(budget)
        return self._policy.predict(observation)


def load_engine(
    policy: str | Path, runtime: RuntimeOptions = RuntimeOptions(), recipe: str | None = None
) -> Engine:
    """
    Load a policy directory, and set the threads of this process.

    Args:
        policy: its directory.
        runtime: how it runs.
        recipe: recipe file to compress a float policy with on the way.

    Raises:
        UserError: the device is missing, or the policy cannot be loaded or fails its self-test.
    """
    import torch  # here: importers of the types above should not wait for it

    from sqap_vla_ros.models.loading import load_policy

    torch.set_num_threads(runtime.threads)
    return Engine(load_policy(policy, recipe=recipe, runtime=runtime))


def failure(error: Exception) -> tuple[str, str]:
    """
    Classify an exception of an inference.

    Where the device ran out of memory, torch's cache of it is freed.

    Returns:
        'out_of_memory' or 'error', and one line for the user.
    """
    text = ' '.join(str(error).split())[:500]
    # torch raises OutOfMemoryError, CUDA's libraries a RuntimeError; both messages say so.
    exhausted = isinstance(error, RuntimeError) and (
        'out of memory' in text.lower() or 'ALLOC_FAILED' in text
    )
    if not exhausted:
        return 'error', text
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return 'out_of_memory', text


def _warm_up(policy: Policy, grey: int) -> tuple[np.ndarray, float]:
    """Return the last actions [horizon, actions] and the duration of the last inference, ms."""
    observation = plain_observation(policy, grey)
    policy.reset()
    for _ in range(WARM_UP_INFERENCES):
        started = perf_counter()
        inference = policy.predict(observation)
        duration_ms = (perf_counter() - started) * 1e3
    return inference.chunk.values, duration_ms
