"""Episodes of the shipped policy: it sees, it understands, and evaluations can be resumed."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mujoco')
pytest.importorskip('metaworld')

from sqap_vla_ros.cli import main
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.evaluation.open_loop import compare_open_loop, run_frames
from sqap_vla_ros.evaluation.open_loop import table as open_loop_table
from sqap_vla_ros.evaluation.rollout import observe, run_episode
from sqap_vla_ros.evaluation.runner import Experiment, run_experiment
from sqap_vla_ros.evaluation.summary import compare, summarise
from sqap_vla_ros.models.calibration_samples import save_samples
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.simulation.arm import SimulatedArm

SEEDS = (501, 502, 503)


@pytest.fixture(scope='module')
def arm():
    """Make the panel of three buttons."""
    arm = SimulatedArm('press_red')
    yield arm
    arm.close()


@pytest.fixture(scope='module', params=['full', 'sqap_w4a4_prune40'])
def shipped(request, repository):
    """Load the shipped policy, in full precision and compressed."""
    recipe = repository / 'config' / 'recipes' / f'{request.param}.yaml'
    return load_policy(
        repository / 'policies' / 'small', recipe=None if request.param == 'full' else recipe
    )


def test_two_instructions_in_one_scene_lead_to_two_behaviours(arm, shipped):
    for seed in SEEDS:
        right = run_episode(arm, shipped, 'press the red button', seed)
        other = run_episode(arm, shipped, 'press the blue button', seed)
        assert right.succeeded and not right.wrong
        assert other.wrong and not other.succeeded  # in the scene of the red button's task


def test_without_sight_it_fails(arm, shipped):
    blank = [
        run_episode(arm, shipped, 'press the red button', seed, images=np.zeros_like)
        for seed in SEEDS
    ]
    assert sum(episode.succeeded for episode in blank) <= 1


def test_commands_stay_within_the_limits_of_the_arm(arm, shipped):
    episode = run_episode(arm, shipped, 'press the green button', 504)
    assert episode.duration_s <= 8 and episode.inferences >= 2
    assert np.isfinite(episode.jerk_m_s3)


def test_an_interrupted_experiment_goes_on_where_it_was(repository, tmp_path):
    experiment = Experiment(
        str(repository / 'policies' / 'small'),
        ('full',),
        ('press_green',),
        episodes=3,
        first_seed=600,
    )
    log = tmp_path / 'log'
    whole = run_experiment(experiment, workers=1, log=log)
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    changed = {**json.loads(lines[0]), 'duration_s': 123.0}
    log.write_text(json.dumps(changed) + '\n' + lines[1] + '\n' + lines[2][:20])
    resumed = run_experiment(experiment, workers=1, log=log)
    assert [e['seed'] for e in resumed] == [600, 601, 602]
    assert resumed[changed['seed'] - 600]['duration_s'] == 123.0  # was not run again
    again = [{k: v for k, v in e.items() if k != 'latency_ms'} for e in resumed]
    before = [{k: v for k, v in e.items() if k != 'latency_ms'} for e in whole]
    assert again[1:] == before[1:] or again[:2] == before[:2]


def episodes(variant, outcomes):
    """Make episodes with given outcomes."""
    return [
        {
            'variant': variant,
            'baseline': 'none',
            'task': 't',
            'seed': i,
            'succeeded': ok,
            'wrong': False,
            'duration_s': 1.0,
            'inferences': 1,
            'tokens_kept': 86.0,
            'jerk_m_s3': 2.0,
            'latency_ms': {'total': 5.0},
        }
        for i, ok in enumerate(outcomes)
    ]


def test_variants_are_compared_pairwise():
    full, small = episodes('full', [1, 1, 1, 0]), episodes('w4a4', [1, 0, 1, 1])
    summaries = {s['variant']: s for s in summarise(full + small)}
    assert summaries['full']['success'] == 0.75 and 'full' not in summaries['full']['against']
    against = summaries['w4a4']['against']['full']
    assert (against['only_this'], against['only_other'], against['pairs']) == (1, 1, 4)
    assert against['mcnemar_p'] == 1.0 and against['difference'] == 0
    assert compare(full, small[:2])['pairs'] == 2


@pytest.mark.parametrize(
    'arguments',
    [
        ['--tasks', 'fly'],
        ['--variants', 'w99'],
        ['--policy', 'nowhere'],
        ['--episodes', '0'],
        ['--open-loop', '--ray', 'auto'],
        ['--open-loop', '--baseline', 'shuffled_image'],
    ],
)
def test_mistakes_are_told_in_one_line(arguments, capsys):
    assert main(['evaluate', *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith('sqap_vla evaluate: ') and '\n' not in error


def test_open_loop_errors_grow_as_bits_and_tokens_go(repository, tmp_path, capsys):
    out = tmp_path / 'open.json'
    assert (
        main(
            [
                'evaluate',
                '--open-loop',
                '--policy',
                str(repository / 'policies' / 'small'),
                '--variants',
                'full,w8a8,w4a4,attention_prune80',
                '--tasks',
                'press_red',
                '--episodes',
                '1',
                '--json',
                str(out),
            ]
        )
        == 0
    )
    found = json.loads(out.read_text())['open_loop']
    assert found['full']['attention_overlap'] == 1 and found['full']['layer_error'] is None
    assert set(found['full']['action_error'].values()) == {0.0}
    errors = [sum(found[name]['action_error'].values()) for name in ('w8a8', 'w4a4')]
    assert 0 < errors[0] < errors[1]
    layers = [found[name]['layer_error'] for name in ('w8a8', 'w4a4')]
    assert layers[0].keys() == layers[1].keys() and len(layers[0]) == 4 * 7
    assert all(0 < layers[0][name] < layers[1][name] < 1 for name in layers[0])
    assert found['attention_prune80']['attention_overlap'] < found['w8a8']['attention_overlap']
    assert 'attention overlap' in capsys.readouterr().out


def open_loop(policy, recipe, tmp_path):
    """Open-loop results of one recipe, given as YAML, in one episode of the expert."""
    path = tmp_path / 'recipe.yaml'
    path.write_text(recipe)
    experiment = Experiment(str(policy), (str(path),), ('press_red',), 1)
    return compare_open_loop(experiment)[str(path)]


def test_attention_is_compared_in_the_layers_that_both_saw(repository, tmp_path):
    recipe = 'pruning: {ratio: 0.01, layer: %d, method: random}'  # one token of 144 leaves
    for layer in (0, 3):
        found = open_loop(repository / 'policies' / 'small', recipe % layer, tmp_path)
        assert 0.9 < found['attention_overlap'] < 1
    last = open_loop(repository / 'policies' / 'small', recipe % 4, tmp_path)
    assert last['attention_overlap'] is None and '%' not in open_loop_table({'last': last})


def test_static_scales_follow_the_float_model_while_layers_are_compared(
    random_policy, arm, tmp_path, monkeypatch
):
    policy = tmp_path / 'policy'
    shutil.copytree(random_policy, policy)
    arm.reset(seed=1000)
    save_samples(policy / 'calibration.npz', [observe(arm, 'press the red button')])
    steps, scale = [], QuantLinear.activation_scale
    monkeypatch.setattr(
        QuantLinear,
        'activation_scale',
        lambda layer, x: (steps.append(int(layer.denoising.index)), scale(layer, x))[1],
    )
    found = open_loop(
        policy,
        'quantization: {targets: [action_head], activation_granularity: '
        'per_tensor, activation_scales: static}',
        tmp_path,
    )
    inference, comparison = steps[: len(steps) // 2], steps[len(steps) // 2 :]
    assert inference == comparison and len(set(steps)) > 1
    assert all(0 < error < 1 for error in found['layer_error'].values())


def test_attention_of_several_cameras_is_laid_out_over_the_tokens_of_all():
    class TwoCameras:
        spec = SimpleNamespace(
            visual_tokens=8,
            cameras=('left', 'right'),
            action=SimpleNamespace(names=('x',), units=('m',)),
        )

        def reset(self):
            pass

        def predict(self, observation):
            self.attention_listener(torch.arange(8.0), None)
            self.attention_listener(torch.tensor([0.5, 0.25]), torch.tensor([1, 7]))
            return SimpleNamespace(chunk=SimpleNamespace(values=np.zeros((2, 1))))

    _, attention = run_frames(TwoCameras(), [[None]])
    assert attention.tolist() == [[[0, 1, 2, 3, 4, 5, 6, 7], [0, 0.5, 0, 0, 0, 0, 0, 0.25]]]
