"""`sqap_vla bench` on models of a few thousand weights, and its statistics."""

import json
import time

import numpy as np
import pytest
import torch

from sqap_vla_ros.benchmark import bf16_linear, building, machine, presets, report
from sqap_vla_ros.benchmark.bf16_linear import Bf16Linear, can_prepack
from sqap_vla_ros.benchmark.measure import measure
from sqap_vla_ros.benchmark.paired import paired_ratio, summarize
from sqap_vla_ros.benchmark.presets import BareDecoderConfig
from sqap_vla_ros.benchmark.variants import NAMES, parse
from sqap_vla_ros.benchmark.workloads import WARM_UP
from sqap_vla_ros.cli import main
from sqap_vla_ros.columns import columns_from_units
from sqap_vla_ros.compression.pruning import coverage
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.layers.vision_config import VisionConfig

from support.graph_recorders import TraceRecorder

CPU = torch.device('cpu')
VISION = VisionConfig(
    model={
        'hidden_size': 16,
        'intermediate_size': 32,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
        'image_size': 32,
        'patch_size': 4,
        'hidden_act': 'gelu_pytorch_tanh',
        'layer_norm_eps': 1e-6,
    }
)
LLAMA = {
    'vocab_size': 300,
    'hidden_size': 64,
    'intermediate_size': 128,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'max_position_embeddings': 128,
    'hidden_act': 'silu',
    'rms_norm_eps': 1e-6,
}


def gemma(width):
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': 2 * width,
        'num_hidden_layers': 3,
        'head_dim': 16,
        'num_attention_heads': 4,
        'num_key_value_heads': 1,
        'hidden_act': 'gelu_pytorch_tanh',
        'rms_norm_eps': 1e-6,
        'vocab_size': 300,
    }


TINY = {
    'decoder': Preset('decoder', '', BareDecoderConfig(LLAMA), text_tokens=10),
    'cogact': Preset(
        'cogact',
        '',
        CogActConfig(
            vision=(VISION,),
            llama=LLAMA,
            image_size=32,
            action=columns_from_units(('x', 'gripper'), ('m', '1')),
            action_head=ActionHeadConfig(hidden_size=32, depth=1, heads=2, ddim_steps=2),
        ),
        text_tokens=6,
        visual_tokens=64,
    ),
    'openvla': Preset(
        'openvla',
        '',
        OpenVlaConfig(
            vision=(VISION,),
            llama=LLAMA,
            image_size=32,
            token_end=300,
            action=columns_from_units(('x', 'y'), ('m', 'm')),
        ),
        text_tokens=6,
        visual_tokens=64,
    ),
    'pi0': Preset(
        'pi0',
        '',
        Pi0Config(
            model={
                'vlm_config': {
                    'model_type': 'paligemma',
                    'projection_dim': 64,
                    'image_token_index': 299,
                    'vision_config': {
                        **VISION.model,
                        'model_type': 'siglip_vision_model',
                        'vision_use_head': False,
                    },
                    'text_config': gemma(64),
                },
                'dit_config': gemma(32),
                'chunk_size': 5,
                'max_state_dim': 8,
                'max_action_dim': 8,
                'min_period': 4e-3,
                'max_period': 4.0,
            },
            image_size=32,
            horizon=5,
            flow_steps=2,
            cameras=('base', 'wrist'),
        ),
        text_tokens=6,
        visual_tokens=128,
    ),
}


@pytest.fixture
def tiny_presets(monkeypatch):
    """Let the bench know these instead."""
    monkeypatch.setattr(presets, 'all_presets', lambda: TINY)


def bench(*arguments):
    return main(['bench', '--rounds', '2', *arguments])


@pytest.mark.parametrize(
    'preset, stages',
    [
        ('decoder', {'decoder'}),
        ('cogact', {'vision', 'decoder', 'action_head'}),
        ('openvla', {'vision', 'prefill', 'decode'}),
        ('pi0', {'vision', 'decoder', 'action_head'}),
    ],
)
def test_every_family_runs_in_every_variant(tiny_presets, tmp_path, capsys, preset, stages):
    assert bench('--preset', preset, '--json', str(tmp_path / 'out.json')) == 0
    found = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    names = [name for name in NAMES if not name.startswith('bf16_graph')]
    assert [v['variant'] for v in found['variants']] == names
    for variant in found['variants']:
        assert set(variant['stages_ms']) == stages
        assert 0 < variant['interval_ms'][0] <= variant['median_ms'] <= variant['interval_ms'][1]
        assert sum(variant['stages_ms'].values()) == pytest.approx(variant['median_ms'], rel=0.5)
        assert variant['backend'] and variant['weight_bytes'] > 0
    sizes = {v['variant']: v['weight_bytes'] for v in found['variants']}
    assert sizes['fp32'] > sizes['bf16'] > sizes['w8a8'] > sizes['w4a8'] == sizes['w4a4']
    assert sizes['w4a4'] == sizes['w4a4_prune40']
    assert any('bf16_graph' in reason and 'cuda' in reason for reason in found['left_out'])
    text = capsys.readouterr().out
    assert 'before layer 1' in text and all(name in text for name in names)


def test_linear_layers_are_measured_against_the_peak(tiny_presets, tmp_path, capsys):
    assert (
        bench(
            '--preset',
            'decoder',
            '--variants',
            'bf16',
            'w4a8',
            '--linears',
            '--json',
            str(tmp_path / 'out.json'),
            '--plot',
            str(tmp_path / 'out.svg'),
        )
        == 0
    )
    found = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    assert {(r['inputs'], r['outputs']) for r in found['linears']} == {
        (64, 64),
        (64, 32),
        (64, 128),
        (128, 64),
    }
    assert {r['rows'] for r in found['linears']} == {1, 4, 16, 192, 290}
    assert (tmp_path / 'out.svg').read_text('utf-8').lstrip().startswith('<?xml')
    assert 'GMAC/s' in capsys.readouterr().out


def test_processor_time_leaves_out_waiting(tiny_presets, tmp_path, monkeypatch, capsys):
    from sqap_vla_ros.benchmark import workloads

    monkeypatch.setattr(workloads, 'synchronize', lambda device: time.sleep(0.05))
    assert (
        bench(
            '--preset',
            'decoder',
            '--variants',
            'fp32',
            '--cpu-time',
            '--json',
            str(tmp_path / 'out.json'),
        )
        == 0
    )
    found = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    assert 0 < found['variants'][0]['median_ms'] < 50
    assert 'processor time' in capsys.readouterr().out


def test_pruned_variants_are_given_fewer_tokens(tiny_presets):
    from sqap_vla_ros.benchmark.workloads import make_workload

    seen = []
    workload = make_workload(TINY['decoder'], parse('fp32_prune40'), CPU, 'auto', None, None)
    model = workload._stages[0][1].__closure__
    decoder = next(c.cell_contents for c in model if hasattr(c.cell_contents, 'decoder')).decoder
    for layer in decoder.llama.layers:
        layer.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    workload.run()
    assert seen == [256 + 10] * 3  # nothing is known yet of what later layers attend to
    seen.clear()
    workload.run()
    assert seen == [154 + 10] * 3


def test_a_variant_is_recorded_in_the_warm_up_and_then_replayed(tiny_presets, monkeypatch):
    from sqap_vla_ros.benchmark import workloads

    recorder = TraceRecorder()
    monkeypatch.setattr(workloads, 'CudaGraphRecorder', lambda device: recorder)
    monkeypatch.setattr(coverage.cpu, 'available', lambda: False)
    direct = workloads.make_workload(
        TINY['decoder'], parse('bf16_prune40'), CPU, 'auto', None, None
    )
    graph = workloads.GraphWorkload(
        direct.variant, direct._stages, CPU, '', 0, direct._selector, strict=True
    )
    runs = []
    monkeypatch.setattr(graph._runner, '_step', lambda *a: runs.append(a) or graph._step(*a))
    for _ in range(workloads.WARM_UP):
        graph.run()
    assert recorder.recorded == 1 and len(runs) == 4  # all tokens; pruned; prepared and recorded
    assert set(graph.run()) == {'total'} and len(runs) == 4
    assert graph.runtime == 'cuda_graph' and direct.runtime == 'eager'


@pytest.mark.parametrize(
    'arguments, words',
    [
        (('--preset', 'abacus'), 'abacus'),
        (('--preset', 'decoder', '--variants', 'w3a3'), 'w3a3'),
        (('--rounds', '0'), '--rounds is 0'),
        (('--instruction-set', 'mmx'), 'mmx'),
        (('--cpu-time', '--threads', '2'), 'needs --device cpu'),
        (('--json', '/nowhere/out.json'), '/nowhere'),
        (('--preset', 'decoder', '--device', 'cuda'), 'no CUDA device'),
        (('--preset', 'decoder', '--variants', 'bf16_graph'), 'CUDA graphs need --device cuda'),
        (
            ('--preset', 'decoder', '--variants', 'w4a8', '--backend', 'onednn'),
            'stores weights in 8',
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(tiny_presets, capsys, arguments, words):
    if '--device' in arguments and torch.cuda.is_available():
        pytest.skip('this machine has a CUDA device')
    assert bench(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith('sqap_vla bench: ') and error.count('\n') == 1


def test_what_does_not_fit_into_memory_is_named(tiny_presets, monkeypatch, capsys):
    monkeypatch.setattr(building, 'free_bytes', lambda device: 300_000)
    assert bench('--preset', 'decoder', '--variants', 'fp32', 'w4a4') == 0
    text = capsys.readouterr().out
    assert 'left out: fp32: decoder needs 0.0 GB' in text and 'w4a4' in text


@pytest.mark.parametrize(
    'name, billions',
    [('decoder-0.5b', 0.50), ('pi0', 3.3), ('cogact-7b', 7.6), ('openvla-7b', 7.5)],
)
def test_presets_have_the_size_that_they_claim(name, billions):
    model = building.outline(presets.find_preset(name), parse('bf16'))
    assert building.needed_bytes(model) / 2e9 == pytest.approx(billions, rel=0.06)


def test_ratio_pairs_the_rounds():
    """A machine that is slow in some rounds slows both."""
    slow = np.array([1, 1, 5, 1, 7, 1.0])
    ratio = paired_ratio(20 * slow, 10 * slow)
    assert ratio.value == ratio.low == ratio.high == 2 and ratio.spread == 0 and ratio.resolved


def test_ratio_that_the_spread_exceeds_is_not_shown():
    ratio = paired_ratio(np.array([9, 14, 8, 13.0]), np.full(4, 10.0))
    assert not ratio.resolved
    assert report._show(report._ratio(ratio)) == '(spread)'
    assert report._ratio(ratio)['value'] is None


def test_summary_is_the_median_with_an_interval_around_it():
    summary = summarize(np.arange(1, 100))
    assert summary.median == 50 and 35 < summary.low < 50 < summary.high < 65


def test_rounds_run_every_workload_in_turn():
    calls = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def run(self):
            calls.append(self.name)
            return {'total': 1.0}

    measured = measure([Fake('a'), Fake('b'), Fake('c')], 3)
    assert calls[3 * WARM_UP :] == ['a', 'b', 'c', 'b', 'c', 'a', 'c', 'a', 'b']
    assert all(len(m.rounds['total']) == 3 for m in measured)


@pytest.mark.parametrize('rows', [1, 16, 50])
def test_bfloat16_baseline_is_the_same_layer(rows):
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48, dtype=torch.bfloat16)
    x = torch.randn(rows, 64).bfloat16()
    assert torch.allclose(Bf16Linear(linear, 50)(x).float(), linear(x).float(), atol=0.02)


def test_machine_is_described():
    found = machine.describe(CPU)
    assert found['cpu'] and found['threads'] == torch.get_num_threads()
    assert all(value > 0 for value in machine.peak_gmacs(CPU).values())
    assert machine.free_bytes(CPU) > 10**6


@pytest.mark.parametrize('packs', [True, False])
def test_the_report_says_which_bfloat16_baseline_ran(tiny_presets, tmp_path, monkeypatch, packs):
    if packs and not can_prepack():
        pytest.skip('oneDNN packs no bfloat16 weights on this processor')
    monkeypatch.setattr(bf16_linear, 'can_prepack', lambda: packs)
    path = tmp_path / 'out.json'
    assert (
        bench(
            '--preset', 'decoder', '--variants', 'bf16', 'w4a8', '--linears', '--json', str(path)
        )
        == 0
    )
    found = json.loads(path.read_text('utf-8'))
    name = 'onednn_bf16' if packs else 'torch_bf16'
    assert found['variants'][0]['backend'] == name
    assert {r['baseline'] for r in found['linears']} == {name}
