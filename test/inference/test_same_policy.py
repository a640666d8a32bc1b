"""A policy that is loaded again is the one that was loaded first, byte by byte."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference import engine
from sqap_vla_ros.inference.client import InferenceFailed, ThreadInference
from sqap_vla_ros.inference.engine import Engine
from sqap_vla_ros.inference.same_policy import PolicyChanged
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.self_test import plain_observation

pytestmark = pytest.mark.slow


@pytest.fixture
def directory(random_policy, tmp_path):
    return shutil.copytree(random_policy, tmp_path / 'policy')


def other_weights(directory):
    path = directory / 'model.safetensors'
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name][0, 0] += np.float32(1e-3)
    save_file(tensors, path)


def other_statistics(directory):
    path = directory / 'dataset_statistics.json'
    path.write_text(path.read_text().replace('0.2', '0.3'))


def other_words(directory):
    path = directory / 'vocabulary.json'
    path.write_text(path.read_text() + '\n')


@pytest.mark.parametrize(
    'change, told',
    [
        (other_weights, 'sha256 was'),
        (other_statistics, 'file dataset_statistics.json differs'),
        (other_words, 'file vocabulary.json differs'),
    ],
)
def test_a_policy_that_was_changed_meanwhile_does_not_run(directory, change, told):
    client = ThreadInference(directory)
    client.start()
    (directory / 'README.md').write_text('Not a part of the policy.\n')
    client.start()
    first = client.info.description['content_sha256']
    kept = shutil.copytree(directory, directory.with_name('kept'))
    change(directory)
    with pytest.raises(PolicyChanged) as error:
        client.start()
    assert told in str(error.value) and str(directory) in str(error.value)
    with pytest.raises(InferenceFailed):
        client.check()
    shutil.rmtree(directory)
    kept.rename(directory)
    client.start()
    assert client.info.description['content_sha256'] == first
    changed = ThreadInference(directory)  # as a node that is configured again
    change(directory)
    changed.start()
    assert changed.info.description['content_sha256'] != first


def test_files_that_change_while_they_are_loaded_are_refused(directory, monkeypatch):
    def load(*arguments, **options):
        policy = load_policy(*arguments, **options)
        other_statistics(directory)
        return policy

    monkeypatch.setattr('sqap_vla_ros.models.loading.load_policy', load)
    with pytest.raises(UserError, match='its files changed while they were loaded'):
        engine.load_engine(directory)
    monkeypatch.undo()
    assert engine.load_engine(directory).info.files


def test_an_answer_in_other_columns_than_the_policy_has_promised_is_refused(random_policy):
    policy = load_policy(random_policy)
    checked = Engine(policy)
    predict, spec = policy.predict, policy.spec.action
    names = (spec.names[1], spec.names[0], *spec.names[2:])
    swapped = ActionSpec(names, spec.units, spec.step_s, spec.horizon)

    def answer(observation):
        inference = predict(observation)
        object.__setattr__(inference, 'chunk', ActionChunk(inference.chunk.values, swapped, 0))
        return inference

    policy.predict = answer
    with pytest.raises(RuntimeError, match=r'the policy answered .*linear.y .*expected'):
        checked.infer(plain_observation(policy, 0), reset=True)


def test_a_mistake_in_the_code_of_a_policy_is_one_line_that_tells_where(random_policy):
    client = ThreadInference(random_policy)
    client.start()
    client._engine._policy.predict = lambda observation: {}['gripper']
    with pytest.raises(InferenceFailed) as failure:
        client.infer(plain_observation(load_policy(random_policy), 0))
    assert failure.value.reason == 'error'
    assert str(failure.value).startswith("KeyError: 'gripper' (test_same_policy.py:")
