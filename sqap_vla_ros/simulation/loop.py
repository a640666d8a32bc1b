"""
The simulated arm in a thread of its own, paced by the steady clock. Free of ROS.

OpenGL contexts belong to a thread, so everything that touches the arm (physics, rendering, reset,
closing) happens in this one. Others leave commands and requests, and never wait for a step.
"""

from dataclasses import dataclass
import os
import threading
import time
from typing import Protocol

import numpy as np

from sqap_vla_ros.errors import UserError

TICK_S = 0.005
"""Simulated time between two looks at the mailbox; due states and images are sent at a tick."""
MAX_LAG_S = 0.05
"""Wall time that is caught up at full speed; anything beyond is lost, so that nothing bursts."""
PACE_WINDOW_S = 10.0
"""Wall time over which the real-time factor is measured before the loop complains of it."""
PACE_TOLERANCE = 0.95


@dataclass(frozen=True)
class Pace:
    """How fast simulated time runs, and what is sent how often in simulated time."""

    real_time_factor: float = 1.0
    camera_rate_hz: float = 20.0
    state_rate_hz: float = 50.0


class Listener(Protocol):
    """Where the loop sends what it simulated; called in the loop's thread."""

    def on_tick(self, simulated_ns: int) -> None:
        """Take note of the simulated time, which never runs backwards, not even at a reset."""

    def on_state(self, arm, simulated_ns: int) -> None:
        """Send the arm's state."""

    def on_image(self, arm, image: np.ndarray, simulated_ns: int) -> None:
        """Send uint8 [size, size, 3] RGB, just rendered."""

    def on_slow(self, achieved_factor: float, wanted_factor: float, image_ms: float) -> None:
        """Tell that simulated time runs slower than asked for. At most once a PACE_WINDOW_S."""


def import_simulator():
    """
    Import and return the modules `arm` and `tasks` of `sqap_vla_ros.simulation`.

    Raises UserError that says what to install where MuJoCo or offscreen rendering is missing.
    """
    try:
        import metaworld  # noqa: F401

        from sqap_vla_ros.simulation import arm, tasks
    except ModuleNotFoundError as error:
        raise UserError(
            f'the simulated arm needs the Python package {error.name}; install it '
            'with: pip install metaworld==3.1.1'
        ) from None
    except (ImportError, AttributeError, OSError) as error:
        raise UserError(_rendering_advice(error)) from None
    return arm, tasks


class SimulationLoop:
    """
    Owns the thread and the arm in it.

    All public methods may be called from any thread. `error` is set when the thread ended
    because something went wrong.
    """

    def __init__(
        self, listener: Listener, task: str, seed: int, image_size: int, pace: Pace = Pace()
    ) -> None:
        self.pace = pace
        self.error: Exception | None = None
        self._listener = listener
        self._image_size = image_size
        self._lock = threading.Lock()
        self._twist: np.ndarray | None = None
        self._gripper: float | None = None
        self._reset = _Reset(task, seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='simulation', daemon=True)

    def start(self) -> None:
        """Start simulating with a reset to the task and seed that the loop was made with."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, which frees the renderer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def command_velocity(self, linear_m_s: np.ndarray) -> None:
        """Leave an end-effector velocity [3], finite, m/s in the base frame. The latest wins."""
        with self._lock:
            self._twist = linear_m_s

    def command_gripper(self, gripper: float) -> None:
        """Leave a gripper command, finite, 0 open .. 1 closed. The latest wins."""
        with self._lock:
            self._gripper = gripper

    def reset(self, task: str, seed: int, timeout_s: float = 30.0) -> bool:
        """Start an episode and wait until it has started; False if it did not in time."""
        request = _Reset(task, seed)
        with self._lock:
            replaced, self._reset = self._reset, request
            self._twist = self._gripper = None
        if replaced is not None:
            replaced.done.set()
        deadline_s = time.monotonic() + timeout_s
        while not request.done.wait(0.1):
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                return False
        return self.error is None

    def _run(self) -> None:
        arms = {}
        try:
            module, _ = import_simulator()
            simulated_ns = 0
            while not self._stop.is_set():
                with self._lock:
                    request, self._reset = self._reset, None
                if request is not None:
                    arm = self._begin(arms, module, request)
                    timing = _Timing(self.pace)
                    request.done.set()
                simulated_ns += round(TICK_S * 1e9)
                self._tick(arm, timing, simulated_ns)
                self._stop.wait(timing.wait_s(self.pace, self._listener))
        except Exception as error:
            self.error = error
        finally:
            for arm in arms.values():
                arm.close()
            with self._lock:
                request, self._reset = self._reset, None
            if request is not None:
                request.done.set()

    def _begin(self, arms, module, request):
        """
        Begin with the arm of the task's scene, which is made once and kept.

        Made anew each time, models and OpenGL contexts leave the memory in pieces, and it grows.
        """
        scene = _scene(request.task)
        if scene in arms:
            arms[scene].reset(seed=request.seed, task=request.task)
            return arms[scene]
        arm = arms[scene] = module.SimulatedArm(request.task, self._image_size)
        arm.reset(seed=request.seed)
        try:
            arm.image()  # the first one makes the OpenGL context
        except Exception as error:
            raise UserError(_rendering_advice(error)) from error
        return arm

    def _tick(self, arm, timing, simulated_ns) -> None:
        with self._lock:
            twist, self._twist = self._twist, None
            gripper, self._gripper = self._gripper, None
        if gripper is not None:
            arm.command_gripper(gripper)
        if twist is not None:
            arm.command(twist)
        arm.step(TICK_S)
        self._listener.on_tick(simulated_ns)
        if timing.state.due(simulated_ns, self.pace.state_rate_hz):
            self._listener.on_state(arm, simulated_ns)
        if timing.camera.due(simulated_ns, self.pace.camera_rate_hz):
            begin = time.monotonic()
            image = arm.image()
            timing.image_ms = (time.monotonic() - begin) * 1e3
            self._listener.on_image(arm, image, simulated_ns)


class _Reset:
    """A request for an episode."""

    def __init__(self, task, seed) -> None:
        self.task, self.seed = task, seed
        self.done = threading.Event()


class _Periodic:
    """Something that is due at a rate in simulated time."""

    def __init__(self) -> None:
        self._next_ns = 0

    def due(self, simulated_ns, rate_hz) -> bool:
        if simulated_ns < self._next_ns:
            return False
        period_ns = round(1e9 / rate_hz)
        # Keep the phase, so that a rate that is no divisor of the tick's is met on average.
        self._next_ns += period_ns
        if self._next_ns <= simulated_ns:
            self._next_ns = simulated_ns + period_ns
        return True


class _Timing:
    """Pacing of one episode: when the next tick is due on the steady clock."""

    def __init__(self, pace) -> None:
        self.state, self.camera = _Periodic(), _Periodic()
        self.image_ms = 0.0
        self._pace = pace
        self._due_s = time.monotonic()
        self._window_s, self._ticks = self._due_s, 0

    def wait_s(self, pace, listener):
        """Seconds to wait before the next tick."""
        now = time.monotonic()
        if pace != self._pace:
            self._pace, self._window_s, self._ticks = pace, now, 0
        self._due_s = max(self._due_s + TICK_S / pace.real_time_factor, now - MAX_LAG_S)
        self._ticks += 1
        if now - self._window_s >= PACE_WINDOW_S:
            achieved = self._ticks * TICK_S / (now - self._window_s)
            if achieved < PACE_TOLERANCE * pace.real_time_factor:
                listener.on_slow(achieved, pace.real_time_factor, self.image_ms)
            self._window_s, self._ticks = now, 0
        return max(0.0, self._due_s - now)


def _scene(task):
    from sqap_vla_ros.simulation.tasks import TASKS

    return TASKS[task].scene


def _rendering_advice(error) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f'offscreen rendering with MUJOCO_GL={os.environ.get("MUJOCO_GL", "egl")} does not '
        f'work ({first}); install libegl1 libegl-mesa0 libgl1-mesa-dri libgl1, or '
        'libosmesa6 and set MUJOCO_GL=osmesa'
    )
