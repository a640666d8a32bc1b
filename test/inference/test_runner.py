"""The runner keeps the policy busy with the newest request and survives its worker."""

from queue import Empty, Queue
from threading import Event

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceFailed
from sqap_vla_ros.inference.runner import InferenceRunner, Request
from sqap_vla_ros.inference.same_policy import PolicyChanged
from sqap_vla_ros.policy import Inference, Observation
from sqap_vla_ros.system.child_process import wait_until

SPEC = ActionSpec(('linear.x',), ('m/s',), 0.05, 1)


class ScriptedClient:
    """Answers, or fails as the script says."""

    def __init__(self, script=()):
        self.script, self.starts, self.resets, self.closed = list(script), 0, [], False

    def start(self):
        self.starts += 1

    def infer(self, observation, reset, budget):
        self.resets.append(reset)
        failure = self.script.pop(0) if self.script else None
        if isinstance(failure, Exception):
            raise failure
        if failure:
            raise InferenceFailed(failure, 'as scripted')
        chunk = ActionChunk(np.zeros((1, 1)), SPEC, observation.stamp_ns)
        return Inference(chunk, {'total': 1.0}, 1)

    def check(self):
        pass

    def close(self):
        self.closed = True


class Harness:
    """A runner that is fed from a queue."""

    def __init__(self, client, period_s=0.001):
        self.client = client
        self.requests, self.answers, self.failures = Queue(), Queue(), Queue()
        self.runner = InferenceRunner(
            client,
            self._next,
            self.answers.put,
            lambda *failure: self.failures.put(failure),
            period_s,
        )
        self.runner.start()

    def _next(self):
        try:
            return self.requests.get_nowait()
        except Empty:
            return None

    def ask(self, stamp_ns, generation=0):
        self.requests.put(Request(Observation({}, '', stamp_ns=stamp_ns), generation, 0.0))
        self.runner.wake()


@pytest.fixture
def harness(request):
    client = ScriptedClient(getattr(request, 'param', ()))
    harness = Harness(client)
    yield harness
    harness.runner.stop()
    assert client.closed


def test_every_request_is_answered_and_the_policy_reset_when_the_generation_changes(harness):
    for stamp, generation in ((1, 4), (2, 4), (3, 5)):
        harness.ask(stamp, generation)
        answer = harness.answers.get(timeout=5)
        assert answer.inference.chunk.stamp_ns == stamp
        assert answer.request.generation == generation
    assert harness.client.resets == [True, False, True]


@pytest.mark.parametrize('harness', [('deadline',), ('died',)], indirect=True)
def test_a_lost_worker_is_reported_started_again_and_asked_again(harness):
    harness.ask(1)
    assert harness.failures.get(timeout=5)[0] in ('deadline', 'died')
    harness.ask(2)
    assert harness.answers.get(timeout=5).inference.chunk.stamp_ns == 2
    assert harness.client.starts == 1


@pytest.mark.parametrize('harness', [('error',)], indirect=True)
def test_a_failed_inference_is_reported_and_the_worker_kept(harness):
    harness.ask(1)
    assert harness.failures.get(timeout=5) == ('error', 'as scripted')
    harness.ask(2)
    assert harness.answers.get(timeout=5).inference.chunk.stamp_ns == 2
    assert harness.client.starts == 0


@pytest.mark.parametrize('harness', [(OSError('a\nb'),)], indirect=True)
def test_an_error_that_nobody_thought_of_is_reported_and_does_not_end_the_thread(harness):
    harness.ask(1)
    assert harness.failures.get(timeout=5)[0] == 'internal'
    harness.ask(2)
    assert harness.answers.get(timeout=5).inference.chunk.stamp_ns == 2


@pytest.mark.parametrize('harness', [('out_of_memory',), ('out_of_memory',) * 2], indirect=True)
def test_out_of_memory_is_asked_again_once_and_then_replaces_the_worker(harness):
    twice = len(harness.client.script) == 2
    harness.ask(1)
    assert harness.failures.get(timeout=5)[0] == 'out_of_memory'
    if twice:
        assert harness.failures.get(timeout=5)[0] == 'out_of_memory'
        harness.ask(2)
    assert harness.answers.get(timeout=5).inference.chunk.stamp_ns == (2 if twice else 1)
    assert harness.client.starts == int(twice)


def test_stopping_does_not_wait_for_the_period():
    client = ScriptedClient()
    runner = InferenceRunner(client, lambda: None, lambda _: None, lambda *_: None, 60.0)
    runner.start()
    stopped = Event()
    runner.stop()
    stopped.set()
    assert client.closed and stopped.is_set()


class DyingClient(ScriptedClient):
    """Ends once without being asked; what it is replaced by is scripted, too."""

    def __init__(self, restarts=()):
        super().__init__()
        self.restarts, self.dead = list(restarts), False

    def check(self):
        if self.dead:
            raise InferenceFailed('died', 'as scripted')

    def infer(self, observation, reset, budget):
        self.check()
        return super().infer(observation, reset, budget)

    def start(self):
        super().start()
        failure = self.restarts.pop(0) if self.restarts else None
        if failure is not None:
            raise failure
        self.dead = False


@pytest.fixture
def dying(request):
    harness = Harness(DyingClient(getattr(request, 'param', ())))
    yield harness
    harness.runner.stop()


def test_a_worker_that_dies_without_work_is_replaced_before_the_next_request(dying):
    client = dying.client
    client.dead = True
    assert dying.failures.get(timeout=5) == ('died', 'as scripted')
    assert wait_until(lambda: dying.runner.unavailable is None, 5)
    assert client.starts == 1 and not client.resets
    dying.ask(1)
    assert dying.answers.get(timeout=5).inference.chunk.stamp_ns == 1


def test_a_worker_that_dies_during_a_long_period_is_replaced_at_once():
    harness = Harness(DyingClient(), period_s=3600.0)
    harness.ask(1)
    harness.answers.get(timeout=5)
    harness.client.dead = True
    assert harness.failures.get(timeout=5)[0] == 'died'
    harness.runner.stop()


@pytest.mark.parametrize('dying', [(UserError('no file'),)], indirect=True)
def test_while_there_is_no_worker_it_says_why(dying):
    dying.client.dead = True
    assert dying.failures.get(timeout=5)[0] == 'died'
    assert dying.failures.get(timeout=5) == ('restart', 'no file')
    assert dying.runner.unavailable == 'no file'  # until the next try, half a second later
    assert wait_until(lambda: dying.runner.unavailable is None, 5)


@pytest.mark.parametrize('dying', [(PolicyChanged('other columns'),)], indirect=True)
def test_another_policy_is_reported_and_never_tried_again(dying):
    dying.client.dead = True
    assert dying.failures.get(timeout=5)[0] == 'died'
    assert dying.failures.get(timeout=5) == ('policy changed', 'other columns')
    dying.ask(1)
    assert dying.failures.get(timeout=5) == ('policy changed', 'other columns')
    assert dying.client.starts == 1 and dying.answers.empty()


def test_stopping_ends_a_load():
    class Loading(DyingClient):
        def start(self):
            started.set()
            assert stopped.wait(10)
            raise UserError('cancelled')

        def close(self):
            super().close()
            stopped.set()

    started, stopped = Event(), Event()
    harness = Harness(Loading())
    harness.client.dead = True
    assert started.wait(10)
    harness.runner.stop()
    assert harness.failures.get_nowait()[0] == 'died' and harness.failures.empty()
