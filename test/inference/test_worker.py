"""A real worker process: loads, answers, and is seen to die, to hang and to refuse."""

from concurrent.futures import ThreadPoolExecutor
import fcntl
import os
import shutil
import signal

import numpy as np
import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceFailed, ProcessInference, ThreadInference
from sqap_vla_ros.models.compressed_copy import compressed_copy
from sqap_vla_ros.policy import Observation

from support.dds import wait_until

pytestmark = pytest.mark.slow


def observation(grey=100):
    return Observation(
        {'camera': np.full((60, 80, 3), grey, np.uint8)},
        'open the drawer',
        np.zeros(4, np.float32),
        stamp_ns=7,
    )


@pytest.fixture(scope='module')
def told():
    return []


@pytest.fixture(scope='module')
def client(random_policy, told, tmp_path_factory):
    home = os.environ.get('ROS_HOME')
    os.environ['ROS_HOME'] = str(tmp_path_factory.mktemp('home'))
    client = ProcessInference(random_policy, deadline_s=20, recipe='w8a8', tell=told.append)
    client.start()
    yield client
    client.close()
    os.environ.pop('ROS_HOME') if home is None else os.environ.update(ROS_HOME=home)


def test_the_process_gives_the_same_answer_as_the_thread(client, random_policy, told):
    assert any('compressing' in line for line in told)
    thread = ThreadInference(random_policy, recipe='w8a8')
    thread.start()
    assert thread.info.spec == client.info.spec
    ours = client.infer(observation(), reset=True)
    theirs = thread.infer(observation(), reset=True)
    np.testing.assert_allclose(ours.chunk.values, theirs.chunk.values, atol=1e-5)
    assert ours.chunk.stamp_ns == 7


def test_an_observation_that_lacks_the_state_is_an_error_and_the_worker_lives(client):
    lacking = Observation({'camera': np.zeros((6, 8, 3), np.uint8)}, 'go')
    with pytest.raises(InferenceFailed) as failure:
        client.infer(lacking)
    assert failure.value.reason == 'error' and 'state' in str(failure.value)
    assert client.infer(observation()).chunk.finite


def test_a_killed_worker_is_noticed_and_replaced(client):
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(InferenceFailed) as failure:
        client.infer(observation())
    assert failure.value.reason == 'died'
    client.start()
    assert client.infer(observation()).chunk.finite


def test_a_hanging_worker_is_ended_at_the_deadline(client):
    client.deadline_s, patience = 0.2, client.deadline_s
    os.kill(client.pid, signal.SIGSTOP)
    pid = client.pid
    with pytest.raises(InferenceFailed) as failure:
        client.infer(observation())
    assert failure.value.reason == 'deadline'
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    client.deadline_s = patience
    client.start()
    assert client.infer(observation()).chunk.finite


def test_a_missing_policy_is_one_clear_line(tmp_path):
    with pytest.raises(UserError) as error:
        ProcessInference(tmp_path / 'nowhere').start()
    assert 'nowhere' in str(error.value) and '\n' not in str(error.value)


def test_closing_ends_a_policy_that_is_being_compressed(random_policy, tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    copy = compressed_copy(random_policy, 'w8a8', lambda _: None)
    shutil.rmtree(copy)
    told = []
    client = ProcessInference(random_policy, recipe='w8a8', tell=told.append)
    with open(copy.with_name(f'.{copy.name}.lock')) as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process is compressing it
        starting = pool.submit(client.start)
        assert wait_until(lambda: any('waiting' in line for line in told), 120)
        pid = client.pid
        client.close()
        with pytest.raises(UserError, match='loading was cancelled'):
            starting.result(60)
    assert not os.path.exists(f'/proc/{pid}') and not copy.exists()
