"""Training: demonstrations from seeds, a schedule, and a run that can be interrupted."""

import numpy as np
import pytest

pytest.importorskip('mujoco')
pytest.importorskip('metaworld')

from safetensors.torch import load_file, save
import torch

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.preprocessing.statistics import Statistics
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import DATASETS
from sqap_vla_ros.training.dataset import (
    Demonstrations,
    disturbed_expert_episode,
    expert_chunk,
    Recorder,
)
from sqap_vla_ros.training.pipeline import Plan, small_config, small_tokenizer, train
from sqap_vla_ros.training.trainer import Batches, Learner, Schedule, Trainer

DATASET = 'sqap_vla_sim'
TASKS = DATASETS[DATASET]
OTHER = save({'learner.x': torch.zeros(1)})
TINY = Plan(shards=1, episodes=1, steps=4, batch=2, dagger_at=(0.5,), dagger_episodes=1, workers=1)


def test_demonstrations_come_from_their_seed():
    arm = SimulatedArm('press_green')
    runs = []
    for seed in (1, 1, 2):
        recorder = Recorder(TASKS, 16, 0.05, 32)
        disturbed_expert_episode(arm, recorder, seed)
        runs.append(recorder.finish())
    arm.close()
    np.testing.assert_array_equal(runs[0].image, runs[1].image)
    np.testing.assert_array_equal(runs[0].action, runs[1].action)
    assert runs[0].action.shape[1:] == (16, 4) and runs[0].image.shape[1:] == (3, 32, 32)
    assert set(runs[0].task) == {TASKS.index('press_green')}
    assert runs[0].state.shape != runs[2].state.shape or (runs[0].state != runs[2].state).any()


def test_the_label_is_what_the_expert_does_from_here_and_leaves_no_trace():
    arm = SimulatedArm('press_box')
    arm.reset(seed=9)
    before = arm.state.copy()
    chunk = expert_chunk(arm, 16, 0.05)
    np.testing.assert_allclose(arm.state, before, atol=1e-3)  # MuJoCo's lag of one step
    for row in chunk[:4]:
        arm.command(row[:3], row[3])
        arm.step(0.05)
    np.testing.assert_allclose(expert_chunk(arm, 4, 0.05), chunk[4:8], atol=1e-6)
    arm.close()


def test_the_rate_warms_up_stays_and_decays():
    schedule = Schedule(steps=1000, warm_up=100)
    rates = [schedule.rate_at(step) for step in range(1000)]
    assert rates[0] < rates[50] < rates[100] == schedule.rate == rates[500]
    assert rates[999] == pytest.approx(schedule.rate / 50, rel=0.2)


def fake_batches(config, tokenizer):
    """Random samples in place of demonstrations."""
    rng = np.random.default_rng(0)
    count = 32
    data = Demonstrations(
        rng.integers(0, 256, (count, 3, config.image_size, config.image_size), np.uint8),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.integers(len(TASKS), size=count),
        rng.normal(size=(count, config.horizon, 4)).astype(np.float32),
        rng.normal(size=(count, 3)).astype(np.float32),
    )
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    return Batches(data, TASKS, tokenizer, Statistics(-one, one, one > 0, zero, one))


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    tokenizer = small_tokenizer(DATASET)
    config = small_config(DATASET, len(tokenizer))

    def trainer(directory):
        directory.mkdir(exist_ok=True)
        torch.manual_seed(0)
        return Trainer(
            Learner(CogActModel(config)), Schedule(6, 4, warm_up=2), directory, 'cpu', 3
        )

    unbroken = trainer(tmp_path / 'a')
    unbroken.run(fake_batches(config, tokenizer), until=6)
    first = trainer(tmp_path / 'b')
    first.run(fake_batches(config, tokenizer), until=3)
    second = trainer(tmp_path / 'b')
    assert second.resume() and second.step == 3
    second.run(fake_batches(config, tokenizer), until=6)
    for name, weight in unbroken.average.items():
        torch.testing.assert_close(second.average[name], weight, rtol=0, atol=0)
    file = tmp_path / 'b' / 'training.safetensors'
    for damage, words in ((file.read_bytes()[:-9], 'truncated'), (OTHER, 'not of this model')):
        file.write_bytes(damage)
        with pytest.raises(UserError, match=words):
            trainer(tmp_path / 'b').resume()


def test_a_tiny_plan_makes_a_policy_that_loads_and_acts(tmp_path):
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.policy import Observation

    train(TINY, tmp_path)
    policy = load_policy(tmp_path / 'policy')
    observation = Observation(
        {'camera': np.zeros((48, 64, 3), np.uint8)}, 'open the drawer', np.zeros(4, np.float32)
    )
    assert policy.predict(observation).chunk.finite
    written = load_file(tmp_path / 'policy' / 'model.safetensors')
    train(TINY, tmp_path)  # finished: nothing more to do
    again = load_file(tmp_path / 'policy' / 'model.safetensors')
    assert all(torch.equal(written[name], again[name]) for name in written)


def test_demonstrations_of_something_else_are_refused(tmp_path):
    np.savez(tmp_path / 'x.npz', image=np.zeros(3), secret=np.zeros(3))
    with pytest.raises(UserError, match='has image, secret, expected'):
        Demonstrations.load(tmp_path / 'x.npz')


@pytest.mark.parametrize('shares', ['0.6,0.3', '0', '1.5', 'soon'])
def test_wrong_shares_of_the_steps_are_refused(shares, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['train', str(tmp_path), '--dagger-at', shares])
    assert f'--dagger-at: {shares!r}: expected increasing' in capsys.readouterr().err
