"""A loaded policy, warmed up and tested: what runs inside a worker process or in a thread."""

import sys
from time import perf_counter

import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import WorkerInfo
from sqap_vla_ros.policy import Inference, Observation, Policy, PolicySpec

WARM_UP_INFERENCES = 3
"""Of each image; a pruner that goes by earlier steps prunes from the second on."""


class Engine:
    """Owns one policy; one thread at a time."""

    def __init__(self, policy: Policy) -> None:
        """
        Warm the policy up and test that it answers and looks at its images.

        Raises UserError that says what failed.
        """
        self._policy = policy
        dark, bright = (_blank_observation(policy.spec, grey) for grey in (0, 255))
        policy.reset()
        for _ in range(WARM_UP_INFERENCES):
            started = perf_counter()
            first = policy.predict(dark)
            warm_up_ms = (perf_counter() - started) * 1e3
        policy.reset()
        for _ in range(WARM_UP_INFERENCES):
            second = policy.predict(bright)
        policy.reset()
        if not (first.chunk.finite and second.chunk.finite):
            raise UserError(
                'self-test: the policy answers a plain image with NaN or infinite '
                'actions; its weights are damaged'
            )
        if policy.spec.cameras and np.array_equal(first.chunk.values, second.chunk.values):
            raise UserError(
                'self-test: the policy gives the same actions for a black and a white '
                'image; it does not see'
            )
        self.info = WorkerInfo(policy.spec, policy.describe(), warm_up_ms)

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Run the policy, after `reset` when a new task begins.

        budget: see `Policy.set_budget`.
        """
        if reset:
            self._policy.reset()
        self._policy.set_budget(budget)
        return self._policy.predict(observation)


def load_engine(
    policy: str, device: str, threads: int, recipe: str | None = None, cuda_graphs: str = 'auto'
) -> Engine:
    """Load a policy directory; cuda_graphs as in `load_policy`. Raises UserError."""
    import torch  # here, so that whoever only wants the types above does not pay for it

    from sqap_vla_ros.models.loading import load_policy

    torch.set_num_threads(threads)
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(
            f'device {device!r}: torch {torch.__version__} sees no CUDA device; set '
            "device to 'cpu' or install torch for your GPU"
        )
    return Engine(load_policy(policy, device=device, recipe=recipe, cuda_graphs=cuda_graphs))


def failure(error: Exception) -> tuple[str, str]:
    """
    Reason ('out_of_memory' or 'error') and one line for an exception of an inference.

    After the former, what torch holds of the device's memory without need has been freed.
    """
    text = ' '.join(str(error).split())[:500]
    # torch raises OutOfMemoryError, or RuntimeError where a library of CUDA ran out; both say so.
    exhausted = isinstance(error, RuntimeError) and (
        'out of memory' in text.lower() or 'ALLOC_FAILED' in text
    )
    if not exhausted:
        return 'error', text
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return 'out_of_memory', text


def _blank_observation(spec: PolicySpec, grey: int) -> Observation:
    image = np.full((240, 320, 3), grey, np.uint8)
    state = np.zeros(len(spec.state_names), np.float32) if spec.state_names else None
    return Observation(dict.fromkeys(spec.cameras, image), 'move', state)
