"""The device's part of an inference as something that can be recorded once and replayed."""

from pathlib import Path
import sys

import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning import coverage
from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.cuda_graphs import CudaGraphRunner, make_runner, StepRunner
from sqap_vla_ros.models.families.pi0 import preprocessing as pi0_preprocessing
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.preprocessing import images as preprocessing
from sqap_vla_ros.models.preprocessing.pillow_resize import pillow_resize
from sqap_vla_ros.models.registry import make_policy
from sqap_vla_ros.policy import Continuation, Observation
from sqap_vla_ros.runtime_options import RuntimeOptions

from support import tiny_released as tiny
from support.graph_recorders import HostForbidden, TraceRecorder

FAMILIES = ('openvla', 'cogact', 'pi0')
TEMPORAL = PruningRecipe(relevance='temporal', smoothing=0.8, coverage='feature')
PRUNINGS = {
    'none': None,
    'temporal': TEMPORAL,
    'attention': PruningRecipe(smoothing=0.5),
    'difference': PruningRecipe(relevance='difference', layer=0),
    'random': PruningRecipe(method='random'),
}
CPU = torch.device('cpu')


@pytest.fixture
def load(imported, tmp_path):
    """Load a tiny released policy, W4A4 by the reference, with a pruning recipe."""

    def load(family, pruning, **options):
        recipe = tmp_path / 'recipe.yaml'
        save_recipe(Recipe('r', QuantizationRecipe(), pruning), recipe)
        return load_policy(
            imported[family], recipe=recipe, runtime=RuntimeOptions(backend='reference', **options)
        )

    return load


@pytest.fixture
def on_device(monkeypatch):
    """Let images be resized, and tokens chosen, as on a device that is no CPU."""
    monkeypatch.setattr(preprocessing, 'resize_like_pillow', pillow_resize)
    for module in [m for n, m in sys.modules.items() if n.startswith('sqap_vla_ros.models.')]:
        if hasattr(module, 'resize_like_pillow'):
            monkeypatch.setattr(module, 'resize_like_pillow', pillow_resize)
    monkeypatch.setattr(coverage.cpu, 'available', lambda: False)
    # The recorder would take `interpolate` apart into operations that round otherwise.
    monkeypatch.setattr(
        pi0_preprocessing,
        'interpolate',
        lambda x, size, **_: torch.ops.aten.upsample_bilinear2d.default(x, size, False),
    )


def observation(policy, seed, instruction=tiny.INSTRUCTION, continued=False):
    generator = np.random.default_rng(seed)
    spec = policy.spec
    images = {
        name: generator.integers(0, 256, (240, 320, 3), dtype=np.uint8) for name in spec.cameras
    }
    state = generator.normal(size=len(spec.state_names)).astype(np.float32)
    shape = spec.action.horizon, len(spec.action.names)
    continuation = Continuation(
        generator.normal(size=shape).astype(np.float32) * 0.1,
        np.linspace(1, 0, shape[0], dtype=np.float32),
    )
    return Observation(
        images,
        instruction,
        state if spec.state_names else None,
        continuation=continuation if continued and spec.continues else None,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'family, pruning',
    [*((family, 'temporal') for family in FAMILIES), *(('cogact', name) for name in PRUNINGS)],
)
@torch.inference_mode()
def test_a_step_neither_waits_for_the_device_nor_needs_the_host(family, pruning, load, imported):
    model = load(family, PRUNINGS[pruning]).model.to('meta')
    policy = make_policy(model, Path(imported[family]), {})
    for continued in (False, True):
        tensors, plan = policy._inputs(observation(policy, 0, continued=continued)), None
        if policy._selector is not None:
            policy._begin(observation(policy, 0))
            tensors, plan = {**tensors, **policy._selector.tensors}, policy._selector.plan
        tensors = {name: x.to('meta') for name, x in tensors.items()}
        policy._step(plan, tensors)  # brings the constants to the device
        with HostForbidden():
            outputs = policy._step(plan, tensors)
        assert outputs['actions'].device.type == 'meta'
        if pruning == 'temporal':
            assert ('kept' in outputs) == continued, 'the second one is pruned'


@pytest.mark.parametrize(
    'culprit',
    [
        lambda x: x + torch.ones(3),
        lambda x: x[x > 0],
        lambda x: x * float(x.sum()),
        lambda x: x.cpu(),
    ],
)
def test_the_check_above_finds_what_breaks_a_recording(culprit):
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), HostForbidden():
        culprit(torch.ones(3, device='meta'))


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_replayed_inferences_are_those_that_are_run_directly(family, load, on_device):
    direct, replayed = (load(family, TEMPORAL) for _ in range(2))
    recorder = TraceRecorder()
    replayed._runner = CudaGraphRunner(replayed._step, CPU, recorder, strict=True)
    for seed in range(5):
        ours, expected = (p.predict(observation(p, seed)) for p in (replayed, direct))
        np.testing.assert_allclose(ours.chunk.values, expected.chunk.values, rtol=0, atol=1e-6)
        if seed:
            np.testing.assert_array_equal(ours.selection.kept, expected.selection.kept)
    assert recorder.recorded == 1 and 'graph' in ours.latencies_ms
    assert replayed.describe()['runtime'] == 'cuda_graph'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('family', FAMILIES)
def test_cuda_graphs_give_the_answers_of_the_policy_without(family, load):
    direct, replayed = (
        load(family, TEMPORAL, device='cuda', cuda_graphs=graphs) for graphs in ('off', 'on')
    )
    for seed in range(6):
        ours, expected = (p.predict(observation(p, seed)) for p in (replayed, direct))
        np.testing.assert_allclose(ours.chunk.values, expected.chunk.values, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(
            ours.selection.kept if seed else 0, expected.selection.kept if seed else 0
        )
    assert 'graph' in ours.latencies_ms


class Doubling:
    """A step that counts how often Python runs it."""

    def __init__(self):
        self.runs = 0

    def __call__(self, plan, tensors):
        self.runs += 1
        return {'y': tensors['x'] * 2}


def test_a_plan_is_run_recorded_and_then_only_replayed():
    step, recorder = Doubling(), TraceRecorder()
    runner = CudaGraphRunner(step, CPU, recorder, strict=True)
    for i in range(6):
        x = torch.full((3,), float(i))
        assert runner('plan', {'x': x})['y'].tolist() == [2.0 * i] * 3
    assert step.runs == 3 and recorder.recorded == 1
    runner('plan', {'x': torch.ones(4)})
    runner('other', {'x': torch.ones(3)})
    assert step.runs == 5 and recorder.recorded == 1, 'new shapes and plans run directly'


def test_recordings_are_dropped_from_the_oldest_on():
    recorder = TraceRecorder()
    runner = CudaGraphRunner(Doubling(), CPU, recorder, strict=True)
    for plan in range(40):
        for _ in range(2):
            runner(plan, {'x': torch.ones(1)})
    assert recorder.recorded == 40 and len(runner._recordings) == 32
    runner(39, {'x': torch.ones(1)})
    assert recorder.recorded == 40
    runner(0, {'x': torch.ones(1)})
    assert recorder.recorded == 41


class Broken(TraceRecorder):
    """Fails to record, or records something else."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def record(self, function, tensors):
        self.recorded += 1
        if self.error is not None:
            raise self.error
        return {'y': tensors['x'] * 3}, lambda: None


@pytest.mark.parametrize(
    'error, reason',
    [
        (
            RuntimeError('operation not permitted\nwhen stream is capturing'),
            'operation not permitted when stream is capturing',
        ),
        (None, "its replay differs in 'y' by 1"),
    ],
)
def test_a_step_that_cannot_be_recorded_runs_directly_and_says_so(error, reason, caplog):
    recorder = Broken(error)
    runner = CudaGraphRunner(Doubling(), CPU, recorder, strict=False)
    for _ in range(4):
        assert runner('plan', {'x': torch.ones(1)})['y'].tolist() == [2.0]
    assert recorder.recorded == 1 and runner.runtime == f'eager (recording failed: {reason})'
    assert reason in caplog.text
    strict = CudaGraphRunner(Doubling(), CPU, Broken(error), strict=True)
    strict('plan', {'x': torch.ones(1)})
    with pytest.raises(UserError, match='cuda_graphs is on.*recorded'):
        strict('plan', {'x': torch.ones(1)})


def test_memory_that_runs_out_while_recording_is_reported_as_that():
    runner = CudaGraphRunner(
        Doubling(), CPU, Broken(torch.OutOfMemoryError('out of memory')), False
    )
    runner('plan', {'x': torch.ones(1)})
    with pytest.raises(torch.OutOfMemoryError):
        runner('plan', {'x': torch.ones(1)})
    assert runner.runtime == 'cuda_graph'


def test_graphs_are_for_cuda_devices():
    assert type(make_runner(Doubling(), CPU, RuntimeOptions())) is StepRunner
    with pytest.raises(UserError, match='cuda_graphs is on, but the device is cpu'):
        make_runner(Doubling(), CPU, RuntimeOptions(cuda_graphs='on'))
    with pytest.raises(UserError, match="cuda_graphs is 'yes', expected one of auto, on, off"):
        make_runner(Doubling(), CPU, RuntimeOptions(cuda_graphs='yes'))
