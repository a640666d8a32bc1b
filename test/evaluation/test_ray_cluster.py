"""The same jobs on a Ray cluster: a stand-in for Ray, and Ray itself where it is installed."""

import socket
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip('mujoco')
pytest.importorskip('metaworld')

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.evaluation.ray_cluster import ray_results
from sqap_vla_ros.evaluation.runner import Experiment, run_experiment


def double(value):
    return 2 * value


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`: what a job raised."""

    def __init__(self, cause):
        super().__init__(f'Traceback:\n  many\n  lines\n{cause}')
        self.cause = cause


class StandIn(SimpleNamespace):
    """Runs each job when it is waited for, the last one first."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

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
        try:
            return [job() for job in finished]
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from None

    def shutdown(self):
        self.running = False


def test_every_job_is_run_once_and_the_cluster_is_left(monkeypatch):
    ray = StandIn()
    monkeypatch.setitem(sys.modules, 'ray', ray)
    assert sorted(ray_results(double, [1, 2, 3], 'auto')) == [2, 4, 6]
    assert ray.addresses == ['auto'] and not ray.running


def test_results_are_those_of_the_local_run(monkeypatch, repository):
    monkeypatch.setitem(sys.modules, 'ray', StandIn())
    experiment = Experiment(
        str(repository / 'policies' / 'small'),
        ('full',),
        ('press_red', 'press_box'),
        episodes=1,
        first_seed=700,
    )
    ours, theirs = (run_experiment(experiment, 1, ray=ray) for ray in (None, 'auto'))
    for episode in ours + theirs:
        del episode['latency_ms']
    assert ours == theirs and len(ours) == 2


def test_without_ray_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert (
        main(
            [
                'evaluate',
                '--variants',
                'full',
                '--tasks',
                'press_red',
                '--episodes',
                '1',
                '--ray',
                'auto',
            ]
        )
        == 2
    )
    assert 'pip install "sqap_vla_ros[ray]"' in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', StandIn(ConnectionError('could not\nconnect')))
    with pytest.raises(UserError, match='--ray auto: cannot join a cluster there .could not conn'):
        list(ray_results(double, [1], 'auto'))
    ray = StandIn()
    monkeypatch.setitem(sys.modules, 'ray', ray)
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'127.0.0.1:{server.getsockname()[1]}'
        assert list(ray_results(double, [1], address)) == [2]
    with pytest.raises(UserError, match=f'--ray {address}: cannot join'):
        list(ray_results(double, [1], address))
    assert ray.addresses == [address]  # the second time Ray was not asked


def lost(job):
    raise RayError('worker\ndied')


def wrong(job):
    raise UserError(f'checkpoint {job}: no such directory')


def broken(job):
    raise ZeroDivisionError(job)


def absent(job):
    raise ModuleNotFoundError("No module named 'mujoco'")


def test_what_happens_on_workers_is_told_in_one_line_and_mistakes_of_ours_are_not(monkeypatch):
    ray = StandIn()
    monkeypatch.setitem(sys.modules, 'ray', ray)
    with pytest.raises(UserError) as told:
        list(ray_results(wrong, ['here'], 'auto'))
    assert str(told.value) == '--ray auto: a worker says: checkpoint here: no such directory'
    with pytest.raises(UserError, match='the cluster lost a job .worker died.'):
        list(ray_results(lost, [1], 'auto'))
    with pytest.raises(UserError, match="No module named 'mujoco'; install the same version"):
        list(ray_results(absent, [1], 'auto'))
    with pytest.raises(RayTaskError):
        list(ray_results(broken, [1], 'auto'))
    assert not ray.running


def test_workers_of_another_working_directory_find_policy_and_recipe(
    monkeypatch, repository, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'small').symlink_to(repository / 'policies' / 'small')
    (tmp_path / 'mine.yaml').write_text('pruning: {ratio: 0.5}')

    class Elsewhere(StandIn):
        def get(self, finished):
            monkeypatch.chdir('/')
            return super().get(finished)

    monkeypatch.setitem(sys.modules, 'ray', Elsewhere())
    (episode,) = run_experiment(
        Experiment('small', ('mine.yaml',), ('press_red',), 1), 1, ray='auto'
    )
    assert episode['variant'] == 'mine.yaml' and episode['tokens_kept'] == 72


def test_ray_itself_tells_the_same_errors():
    pytest.importorskip('ray')
    with pytest.raises(UserError) as told:
        run_experiment(Experiment('/nowhere', ('full',), ('press_red',), 1), 1, ray='local')
    assert str(told.value).startswith('--ray local: a worker says: checkpoint /nowhere: no such')
    with pytest.raises(UserError, match="a worker says: No module named 'test_ray_cluster'"):
        list(ray_results(wrong, ['here'], 'local'))  # workers do not have the tests


def test_ray_itself_gives_the_same(repository):
    pytest.importorskip('ray')
    experiment = Experiment(
        str(repository / 'policies' / 'small'),
        ('full',),
        ('press_red',),
        episodes=2,
        first_seed=700,
    )
    ours, theirs = (run_experiment(experiment, 1, ray=ray) for ray in (None, 'local'))
    for episode in ours + theirs:
        del episode['latency_ms']
    assert ours == theirs and len(ours) == 2
