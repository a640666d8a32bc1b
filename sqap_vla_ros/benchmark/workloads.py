"""One inference of each model, as a sequence of stages that are timed apart."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from sqap_vla_ros.benchmark.building import BareDecoder, build, needed_bytes
from sqap_vla_ros.benchmark.presets import Preset
from sqap_vla_ros.benchmark.variants import Variant
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.compression.recipe import save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.timing import synchronize
from sqap_vla_ros.models.cuda_graphs import CudaRecorder, GraphRunner
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.families.openvla.model import OpenVlaModel
from sqap_vla_ros.models.layers.decoder import pruning_point
from sqap_vla_ros.policy import Observation

WARM_UP = 4
"""
Inferences that are part of no figure: a policy that prunes by what it saw before does so from the
second on, and is then run directly, recorded and replayed.
"""

Stage = tuple[str, Callable[[object], object]]
"""Name, and a function of the stage before's result."""


class Workload:
    """A built variant, ready to run; one thread."""

    runtime = 'eager'
    """How its operations are started; see `StepRunner.runtime`."""

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

    def __init__(self, *arguments, strict: bool) -> None:
        """Strict: as for `GraphRunner`."""
        super().__init__(*arguments)
        self._runner = GraphRunner(self._step, self.device, CudaRecorder(self.device), strict)

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

    def _step(self, _, tensors):
        if self._selector is not None:
            self._selector.bind(tensors)
        value = None
        for _, stage in self._stages:
            value = stage(value)
        answer = next(x for x in tree_leaves(value) if isinstance(x, torch.Tensor))
        return {'answer': answer, **(self._selector.outputs() if self._selector else {})}


class PolicyWorkload(Workload):
    """The shipped policy, whose own stage latencies are reported where the clock is theirs."""

    def __init__(self, variant: Variant, policy, device: torch.device) -> None:
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
    scratch: Path,
) -> Workload:
    """
    Build one variant.

    policy: directory of the shipped policy, for the preset 'shipped'; scratch: a directory for
    the variant's recipe. Raises UserError for what cannot be built here, and says why.
    """
    if variant.graph and device.type != 'cuda':
        raise UserError(f'{variant.name}: CUDA graphs need --device cuda')
    if preset.config is None:
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


def _shipped(variant, device, backend, policy, scratch):
    from sqap_vla_ros.models.loading import load_policy

    if variant.precision == 'bf16':
        raise UserError(f'{variant.name}: the shipped policy runs in float32')
    recipe = None
    if variant.name != 'fp32':
        recipe = scratch / f'{variant.name}.yaml'
        save_recipe(variant.recipe, recipe)
    return PolicyWorkload(
        variant,
        load_policy(
            policy, str(device), recipe, backend, 'off' if variant.quantization is None else 'auto'
        ),
        device,
    )


def _observation(spec) -> Observation:
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


def _selector(preset, model, device) -> TokenSelector:
    side = 16 if isinstance(model, BareDecoder) else model.grid
    return TokenSelector(model.pruning, (side, side), preset.visual_tokens // side**2, device)


def _pruned(selector, decode):
    """Run `decode` at a pruning point; the first time all tokens stay (temporal relevance)."""
    if selector is None:
        return decode(None)
    decoded = decode(pruning_point(selector))
    selector.end()
    return decoded


def _stages(preset: Preset, model: nn.Module, selector, dtype, device) -> list[Stage]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator).to(device, dtype)

    text = torch.randint(5, 30, (1, preset.text_tokens), generator=generator).to(device)
    if isinstance(model, BareDecoder):
        length = preset.visual_tokens + preset.text_tokens
        embeddings = noise(1, length, model.decoder.config.hidden_size)
        visual = slice(1, 1 + preset.visual_tokens)
        return [
            (
                'decoder',
                lambda _: _pruned(
                    selector, lambda point: model.decoder(embeddings, visual, point)
                ),
            )
        ]
    config = model.config
    if isinstance(model, CogActModel):
        image = noise(1, 3, config.image_size, config.image_size)
        start = noise(1, *model.action_head.shape)
        return [
            ('vision', lambda _: model.encode_image(image)),
            (
                'decoder',
                lambda seen: _pruned(
                    selector, lambda point: model.cognition(seen, text, None, point)[0]
                ),
            ),
            ('action_head', lambda condition: model.action_head.sample(condition, start)),
        ]
    if isinstance(model, OpenVlaModel):
        image = noise(1, 3, config.image_size, config.image_size)
        count = len(config.action_names)
        return [
            ('vision', lambda _: model.encode_image(image)),
            (
                'prefill',
                lambda seen: _pruned(selector, lambda point: model.prefill(seen, text, point)[:2]),
            ),
            ('decode', lambda state: model.write(*state, count)),
        ]
    images = noise(len(config.cameras), 3, config.image_size, config.image_size)
    state = noise(1, config.model['max_state_dim'])
    start = noise(1, config.horizon, config.model['max_action_dim'])
    return [
        ('vision', lambda _: model.encode_images(images)),
        (
            'decoder',
            lambda seen: _pruned(selector, lambda point: model.prefix(seen, text, point)[0]),
        ),
        ('action_head', lambda cache: model.sample(cache, state, start)),
    ]
