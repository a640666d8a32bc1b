"""One inference of each model, as a sequence of stages that are timed apart."""

from collections.abc import Callable, Hashable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from sqap_vla_ros.benchmark.bare_decoder import measured_family
from sqap_vla_ros.benchmark.building import build, needed_bytes
from sqap_vla_ros.benchmark.variants import Variant
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.timing import synchronize
from sqap_vla_ros.models.cuda_graphs import CudaGraphRecorder, CudaGraphRunner, Tensors
from sqap_vla_ros.models.family import BenchmarkInputs, Preset, Stage
from sqap_vla_ros.models.layers.pruned_layers import pruning_point, PruningPoint
from sqap_vla_ros.models.vla_model import VlaModel
from sqap_vla_ros.policy import Observation, Policy, PolicySpec
from sqap_vla_ros.runtime_options import RuntimeOptions

WARM_UP = 4
"""
Inferences that are part of no figure: a policy that prunes by what it saw before does so from the
second on, and is then run directly, recorded and replayed.
"""


class Workload:
    """A built variant, ready to run; one thread."""

    @property
    def runtime(self) -> str:
        """How its operations are started; see `StepRunner.runtime`."""
        return 'eager'

    def __init__(
        self,
        variant: Variant,
        stages: list[Stage],
        device: torch.device,
        backends: str,
        weight_bytes: int,
        selector: TokenSelector | None = None,
    ) -> None:
        self.variant, self.device, self.backends = variant, device, backends
        self.weight_bytes = weight_bytes
        self._stages, self._selector = stages, selector
        self.clock = perf_counter
        """Seconds; `time.thread_time` leaves out what other processes take."""

    @torch.inference_mode()
    def run(self) -> dict[str, float]:
        """Run one inference; milliseconds of each stage and of all, 'total'."""
        found, value = {}, None
        synchronize(self.device)
        start = before = self.clock()
        self._begin()
        for name, stage in self._stages:
            value = stage(value)
            synchronize(self.device)
            now = self.clock()
            found[name] = (now - before) * 1e3
            before = now
        return {**found, 'total': (before - start) * 1e3}

    def _begin(self) -> None:
        if self._selector is not None:
            self._selector.begin(np.linspace(0, 0.5, self._selector.tokens))

    def peak_bytes(self) -> int | None:
        """Most memory that one inference has allocated at a time; None where it is not counted."""
        if self.device.type != 'cuda':
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        self.run()
        return torch.cuda.max_memory_allocated(self.device)


class GraphWorkload(Workload):
    """All stages as one CUDA graph."""

    def __init__(self, *arguments: Any, strict: bool) -> None:
        """strict: as for `CudaGraphRunner`."""
        super().__init__(*arguments)
        self._runner = CudaGraphRunner(
            self._step, self.device, CudaGraphRecorder(self.device), strict
        )

    @property
    def runtime(self) -> str:
        """See `Workload`."""
        return self._runner.runtime

    @torch.inference_mode()
    def run(self) -> dict[str, float]:
        """See `Workload`."""
        synchronize(self.device)
        start = self.clock()
        self._begin()
        selector = self._selector
        outputs = self._runner(
            *((None, {}) if selector is None else (selector.plan, selector.tensors))
        )
        if selector is not None:
            selector.take(outputs)
        synchronize(self.device)
        return {'total': (self.clock() - start) * 1e3}

    def _step(self, _: Hashable, tensors: Tensors) -> Tensors:
        if self._selector is not None:
            self._selector.bind(tensors)
        value = None
        for _, stage in self._stages:
            value = stage(value)
        answer = next(x for x in tree_leaves(value) if isinstance(x, torch.Tensor))
        return {'answer': answer, **(self._selector.outputs() if self._selector else {})}


class PolicyWorkload(Workload):
    """The shipped policy, whose own stage latencies are reported where the clock is theirs."""

    def __init__(self, variant: Variant, policy: Policy, device: torch.device) -> None:
        description = policy.describe()
        super().__init__(
            variant, [], device, description['backend'], description['parameter_bytes']
        )
        self._policy = policy
        self._observation = _observation(policy.spec)

    @property
    def runtime(self) -> str:
        """See `Workload`."""
        return self._policy.describe()['runtime']

    def run(self) -> dict[str, float]:
        """See `Workload`."""
        start = self.clock()
        inference = self._policy.predict(self._observation)
        synchronize(self.device)
        total = {'total': (self.clock() - start) * 1e3}
        return {**inference.latencies_ms, **total} if self.clock is perf_counter else total


def make_workload(
    preset: Preset,
    variant: Variant,
    device: torch.device,
    backend: str,
    policy: Path | None,
    scratch: Path | None,
) -> Workload:
    """
    Build one variant.

    Args:
        preset: the model.
        variant: how it runs.
        device: where it runs.
        backend: of the quantized layers.
        policy: directory of the shipped policy, for the preset 'shipped'.
        scratch: directory for the variant's recipe, for the same preset.

    Raises:
        UserError: it cannot be built here; the message says why.
    """
    if variant.graph and device.type != 'cuda':
        raise UserError(f'{variant.name}: CUDA graphs need --device cuda')
    if preset.config is None:
        if policy is None or scratch is None:
            raise ValueError('the shipped policy needs its directory and a directory for recipes')
        return _shipped(variant, device, backend, policy, scratch)
    model, backends = build(preset, variant, device, backend)
    selector = _selector(preset, model, device) if variant.pruned else None
    stages = _stages(preset, model, selector, variant.dtype, device)
    arguments = variant, stages, device, backends, needed_bytes(model), selector
    if not variant.graph and (variant.quantization is None or device.type != 'cuda'):
        return Workload(*arguments)
    # Quantized variants run as policies do: as a graph where that can be recorded.
    workload = GraphWorkload(*arguments, strict=variant.graph)
    for _ in range(WARM_UP):
        workload.run()
    return workload


def _shipped(
    variant: Variant, device: torch.device, backend: str, policy: Path, scratch: Path
) -> Workload:
    from sqap_vla_ros.models.loading import load_policy

    if variant.precision == 'bf16':
        raise UserError(f'{variant.name}: the shipped policy runs in float32')
    recipe = None
    if variant.name != 'fp32':
        recipe = scratch / f'{variant.name}.yaml'
        save_recipe(variant.recipe, recipe)
    graphs = 'off' if variant.quantization is None else 'auto'
    runtime = RuntimeOptions(str(device), backend=backend, cuda_graphs=graphs)
    return PolicyWorkload(
        variant,
        load_policy(policy, recipe=recipe, runtime=runtime),
        device,
    )


def _observation(spec: PolicySpec) -> Observation:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    pose = np.eye(4)
    pose[2, 3] = 1.0
    camera = PinholeCamera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), pose, 320, 240)
    return Observation(
        dict.fromkeys(spec.cameras, image),
        'open the drawer',
        np.zeros(len(spec.state_names), np.float32) if spec.state_names else None,
        dict.fromkeys(spec.cameras, camera),
        np.zeros(3),
    )


def _selector(preset: Preset, model: VlaModel, device: torch.device) -> TokenSelector:
    side = model.grid
    assert model.pruning is not None
    return TokenSelector(model.pruning, (side, side), preset.visual_tokens // side**2, device)


def _pruned(selector: TokenSelector | None, decode: Callable[[PruningPoint | None], Any]) -> Any:
    """Run `decode` at a pruning point; the first time all tokens stay (temporal relevance)."""
    if selector is None:
        return decode(None)
    decoded = decode(pruning_point(selector))
    selector.end()
    return decoded


def _stages(
    preset: Preset,
    model: VlaModel,
    selector: TokenSelector | None,
    dtype: torch.dtype,
    device: torch.device,
) -> list[Stage]:
    stages = measured_family(preset).stages
    if stages is None:
        raise UserError(f'preset {preset.name}: its model family has no stages to measure')
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(5, 30, (1, preset.text_tokens), generator=generator).to(device)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    return stages(
        model,
        BenchmarkInputs(
            text, preset.visual_tokens, noise, lambda decode: _pruned(selector, decode)
        ),
    )
