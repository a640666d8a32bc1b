"""A loaded policy, warmed up and checked, as it runs in a worker process or in a thread."""

from pathlib import Path
import sys
from time import perf_counter
import traceback

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import WorkerInfo
from sqap_vla_ros.models.policy_files import content_sha256, digests, listing
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

    def __init__(self, policy: Policy, files: dict[str, str] | None = None) -> None:
        """
        Warm the policy up and check that it answers and looks at its images.

        Args:
            policy: loaded.
            files: of its directory beside the weights, and their hashes; see `digests`.

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
        description, files = policy.describe(), files or {}
        if files:
            weights = str(description.get('sha256'))
            description = {**description, 'content_sha256': content_sha256(weights, files)}
        self.info = WorkerInfo(policy.spec, description, warm_up_ms, files)

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Run the policy once.

        Args:
            observation: what it sees.
            reset: forget earlier observations first, because a new task begins.
            budget: see `Policy.set_budget`.

        Raises:
            UserError: the observation lacks something that the policy needs.
            RuntimeError: the device failed or ran out of memory, or the chunk has other columns
                than the policy has promised.
        """
        if reset:
            self._policy.reset()
        self._policy.set_budget(budget)
        inference = self._policy.predict(observation)
        if inference.chunk.spec != self.info.spec.action:
            raise RuntimeError(
                f'the policy answered {_columns(inference.chunk.spec)}, expected '
                f'{_columns(self.info.spec.action)}'
            )
        return inference


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
        UserError: the device is missing, the policy cannot be loaded or fails its self-test, or
            its files change meanwhile.
    """
    import torch  # here: importers of the types above should not wait for it

    from sqap_vla_ros.models.loading import load_policy

    torch.set_num_threads(runtime.threads)
    before = listing(policy)
    engine = Engine(load_policy(policy, recipe=recipe, runtime=runtime), digests(policy))
    if listing(policy) != before:
        raise UserError(
            f'policy {policy}: its files changed while they were loaded; load it again when they '
            'are complete'
        )
    return engine


def _columns(spec: ActionSpec) -> str:
    columns = ', '.join(f'{name} ({unit})' for name, unit in zip(spec.names, spec.units))
    return f'{spec.horizon} rows of {spec.step_s:g} s with {columns}'


def failure(error: Exception) -> tuple[str, str]:
    """
    Classify an exception of a policy, while it is loaded or infers.

    Where the device ran out of memory, torch's cache of it is freed.

    Returns:
        'out_of_memory' or 'error', and one line for the user. Where a mistake in the code of the
        policy raised it, the line tells where.
    """
    text = ' '.join(str(error).split())[:500]
    if not isinstance(error, (UserError, RuntimeError, ValueError)):
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = ''.join(f' ({Path(frame.filename).name}:{frame.lineno})' for frame in place)
        text = f'{type(error).__name__}: {text}{where}'
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
