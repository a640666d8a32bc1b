"""The same jobs on a Ray cluster: a stand-in for Ray, and Ray itself where it is installed."""
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip('mujoco')
pytest.importorskip('metaworld')

from sqap_vla_ros.cli import main  # noqa: E402
from sqap_vla_ros.errors import UserError  # noqa: E402
from sqap_vla_ros.evaluation.ray_cluster import ray_results  # noqa: E402
from sqap_vla_ros.evaluation.runner import Experiment, run_experiment  # noqa: E402


def double(value):
    return 2 * value


class StandIn(SimpleNamespace):
    """Runs each job when it is waited for, the last one first."""

    def __init__(self, failure=None):
        self.addresses, self.running, self.failure = [], False, failure

    def init(self, address, log_to_driver):
        if self.failure:
            raise self.failure
        self.addresses.append(address)
        self.running = True

    def remote(self, num_cpus):
        return lambda function: SimpleNamespace(remote=lambda job: lambda: function(job))

    def wait(self, pending):
        return pending[-1:], pending[:-1]

    def get(self, finished):
        return [job() for job in finished]

    def shutdown(self):
        self.running = False


def test_every_job_is_run_once_and_the_cluster_is_left(monkeypatch):
    ray = StandIn()
    monkeypatch.setitem(sys.modules, 'ray', ray)
    assert sorted(ray_results(double, [1, 2, 3], 'auto')) == [2, 4, 6]
    assert ray.addresses == ['auto'] and not ray.running


def test_results_are_those_of_the_local_run(monkeypatch, repository):
    monkeypatch.setitem(sys.modules, 'ray', StandIn())
    experiment = Experiment(str(repository / 'policies' / 'small'), ('full',),
                            ('press_red', 'press_box'), episodes=1, first_seed=700)
    ours, theirs = (run_experiment(experiment, 1, ray=ray) for ray in (None, 'auto'))
    for episode in ours + theirs:
        del episode['latency_ms']
    assert ours == theirs and len(ours) == 2


def test_without_ray_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main(['evaluate', '--variants', 'full', '--tasks', 'press_red', '--episodes', '1',
                 '--ray', 'auto']) == 2
    assert 'pip install "sqap_vla_ros[ray]"' in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', StandIn(ConnectionError('could not\nconnect')))
    with pytest.raises(UserError, match='--ray 10.0.0.1:6379: no cluster there .could not conn'):
        list(ray_results(double, [1], '10.0.0.1:6379'))


def test_ray_itself_gives_the_same(repository):
    pytest.importorskip('ray')
    experiment = Experiment(str(repository / 'policies' / 'small'), ('full',), ('press_red',),
                            episodes=2, first_seed=700)
    ours, theirs = (run_experiment(experiment, 1, ray=ray) for ray in (None, 'local'))
    for episode in ours + theirs:
        del episode['latency_ms']
    assert ours == theirs and len(ours) == 2
