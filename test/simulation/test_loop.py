"""The paced simulation with an arm that only counts: who may do what in which thread, how fast."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.simulation import loop as loop_module
from sqap_vla_ros.simulation.loop import MAX_LAG_S, Pace, SimulationLoop, TICK_S
from sqap_vla_ros.system.child_process import wait_until


class CountingArm:
    """Stands in for SimulatedArm: notes every call with its thread, renders as slowly as told."""

    image_s = 0.0
    image_error = None

    def __init__(self, task, image_size):
        self.task = SimpleNamespace(name=task, scene='button_panel')
        self.calls = []
        self.threads = set()
        CountingArm.last = self

    def __getattr__(self, name):
        def note(*arguments, **keywords):
            self.threads.add(threading.current_thread().name)
            self.calls.append((time.monotonic(), name, arguments, keywords))

        return note

    def image(self):
        self.threads.add(threading.current_thread().name)
        if self.image_error is not None:
            raise self.image_error
        time.sleep(self.image_s)
        return np.zeros((4, 4, 3), np.uint8)

    def named(self, name):
        return [call for call in list(self.calls) if call[1] == name]


class Listener:
    """Counts what the loop sends."""

    def __init__(self):
        self.ticks, self.states, self.images, self.slow = [], [], [], []

    def on_tick(self, simulated_ns):
        self.ticks.append((time.monotonic(), simulated_ns))

    def on_state(self, arm, simulated_ns):
        self.states.append(simulated_ns)

    def on_image(self, arm, image, simulated_ns):
        self.images.append(simulated_ns)

    def on_slow(self, achieved_factor, wanted_factor, image_ms):
        self.slow.append((achieved_factor, wanted_factor, image_ms))


@pytest.fixture
def start(monkeypatch):
    loops = []
    monkeypatch.setattr(
        loop_module,
        'import_simulator',
        lambda: (
            SimpleNamespace(SimulatedArm=CountingArm),
            SimpleNamespace(TASKS={'press_red': SimpleNamespace(scene='button_panel')}),
        ),
    )

    def make(pace=Pace(), image_s=0.0, image_error=None):
        monkeypatch.setattr(CountingArm, 'image_s', image_s)
        monkeypatch.setattr(CountingArm, 'image_error', image_error)
        listener = Listener()
        loop = SimulationLoop(listener, 'press_red', 7, 4, pace)
        loops.append(loop)
        loop.start()
        return loop, listener

    yield make
    for loop in loops:
        loop.stop()


@pytest.mark.parametrize(
    'camera_rate_hz, state_rate_hz', [(20.0, 50.0), (30.0, 70.0), (1.0, 200.0)]
)
def test_rates_are_met_in_simulated_time_even_if_no_divisor_of_the_tick(
    start, camera_rate_hz, state_rate_hz
):
    _, listener = start(Pace(10.0, camera_rate_hz, state_rate_hz))
    assert wait_until(lambda: listener.ticks and listener.ticks[-1][1] > 4e9, 20)
    for sent, rate in ((listener.images, camera_rate_hz), (listener.states, state_rate_hz)):
        periods = np.diff(sent) / 1e9
        assert np.mean(periods) == pytest.approx(1 / rate, rel=0.02)
        assert np.ptp(periods) <= TICK_S + 1e-9


def test_all_of_the_arm_happens_in_one_thread_that_closes_it(start):
    loop, listener = start()
    assert wait_until(lambda: listener.images, 10)
    assert loop.reset('press_red', 8)
    arm = CountingArm.last
    loop.stop()
    assert arm.threads == {'simulation'}
    assert [call[3]['seed'] for call in arm.named('reset')] == [7, 8]
    assert len(arm.named('close')) == 1


def test_the_latest_command_wins_and_is_given_once(start):
    loop, listener = start()
    assert wait_until(lambda: listener.ticks, 10)
    loop.command_gripper(0.5)
    loop.command_velocity(np.array([0.1, 0.0, 0.0]))
    arm = CountingArm.last
    assert wait_until(lambda: arm.named('command') and arm.named('command_gripper'), 10)
    time.sleep(0.1)
    assert len(arm.named('command')) == len(arm.named('command_gripper')) == 1
    np.testing.assert_array_equal(arm.named('command')[0][2][0], [0.1, 0.0, 0.0])


def test_commands_for_the_last_episode_do_not_reach_the_next(start):
    loop, listener = start(Pace(camera_rate_hz=20.0), image_s=0.5)
    assert wait_until(lambda: listener.ticks, 10)
    time.sleep(0.1)  # the loop renders now and looks at its mailbox only afterwards
    loop.command_velocity(np.array([0.1, 0.0, 0.0]))
    assert loop.reset('press_red', 9)
    assert not CountingArm.last.named('command')


def test_a_loop_that_cannot_keep_up_slows_down_and_says_so_but_never_bursts(start, monkeypatch):
    monkeypatch.setattr(loop_module, 'PACE_WINDOW_S', 0.5)
    loop, listener = start(Pace(1.0, 20.0, 50.0), image_s=0.2)
    assert wait_until(lambda: listener.slow, 20)
    achieved, wanted, image_ms = listener.slow[0]
    assert achieved < 0.5 and wanted == 1.0 and image_ms >= 200
    monkeypatch.setattr(CountingArm, 'image_s', 0.0)
    loop.pace = Pace(1.0, 1.0, 50.0)
    time.sleep(0.3)
    begin = len(listener.ticks)
    time.sleep(0.5)
    times, simulated = np.transpose(listener.ticks[begin:])
    gained_s = (simulated - simulated[0]) / 1e9 - (times - times[0])
    assert gained_s.max() <= MAX_LAG_S + 2 * TICK_S


def test_time_goes_on_through_a_reset(start):
    loop, listener = start()
    assert wait_until(lambda: len(listener.ticks) > 10, 10)
    assert loop.reset('press_red', 1)
    count = len(listener.ticks)
    assert wait_until(lambda: len(listener.ticks) > count + 10, 10)
    assert np.all(np.diff([simulated for _, simulated in listener.ticks]) > 0)


def test_a_renderer_that_fails_ends_the_loop_with_advice(start):
    loop, _ = start(image_error=RuntimeError('no EGL display\nmore'))
    assert wait_until(lambda: loop.error is not None, 10)
    assert isinstance(loop.error, UserError)
    assert 'libegl1' in str(loop.error) and '\n' not in str(loop.error)
    begin = time.monotonic()
    assert not loop.reset('press_red', 1)
    assert time.monotonic() - begin < 5
