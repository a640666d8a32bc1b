"""
The simulated arm in a thread of its own, paced by the steady clock; free of ROS.

An OpenGL context belongs to one thread, so everything that touches the arm (physics, rendering,
reset, closing) happens in this thread. Other threads leave commands and requests, and never wait
for a step.
"""

from collections.abc import Callable
from dataclasses import dataclass
import os
import threading
import time
from types import ModuleType
from typing import Protocol, TYPE_CHECKING

import numpy as np

from sqap_vla_ros.errors import UserError

if TYPE_CHECKING:
    from sqap_vla_ros.simulation.arm import SimulatedArm

TICK_S = 0.005
"""Simulated time of a tick: commands are taken, and states and images sent, once a tick."""
MAX_LAG_S = 0.05
"""Longest delay, wall time, that is caught up at full speed; the rest is dropped, so that no burst
of messages follows."""
PACE_WINDOW_S = 10.0
"""Wall time over which the real-time factor is measured."""
PACE_TOLERANCE = 0.95
"""Fraction of the wanted real-time factor below which the loop reports that it is slow."""


@dataclass(frozen=True)
class Pace:
    """Speed of simulated time, and the rates of images and states in simulated time."""

    real_time_factor: float = 1.0
    """Simulated seconds per second."""
    camera_rate_hz: float = 20.0
    state_rate_hz: float = 50.0


class Listener(Protocol):
    """Receives what is simulated; called in the loop's thread."""

    def on_tick(self, simulated_ns: int) -> None:
        """Take the simulated time, which never runs backwards, not even at a reset."""

    def on_state(self, arm: 'SimulatedArm', simulated_ns: int) -> None:
        """Take the arm in its new state."""

    def on_image(self, arm: 'SimulatedArm', image: np.ndarray, simulated_ns: int) -> None:
        """Take a new image: uint8 [size, size, 3], RGB."""

    def on_slow(self, achieved_factor: float, wanted_factor: float, image_ms: float) -> None:
        """Learn that simulated time runs too slowly; called at most once in PACE_WINDOW_S."""


def import_simulator() -> tuple[ModuleType, ModuleType]:
    """
    Import the part of the simulation that needs MuJoCo.

    Returns:
        The modules `arm` and `tasks` of this package.

    Raises:
        UserError: MuJoCo or offscreen rendering is missing; the message says what to install.

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
    Owns the thread and the arm in it. Public methods may be called from any thread.

    Args:
        listener: Receives states and images.
        task: Task of the first episode.
        seed: Seed of the first episode.
        image_size: Rows and columns of the images, pixels.
        pace: Speed and rates; the attribute may be replaced at any time.

    """

    def __init__(
        self, listener: Listener, task: str, seed: int, image_size: int, pace: Pace = Pace()
    ) -> None:
        self.pace = pace
        self.error: Exception | None = None
        """The exception that has ended the thread, if any."""
        self._listener = listener
        self._image_size = image_size
        self._lock = threading.Lock()
        self._twist: np.ndarray | None = None
        self._gripper: float | None = None
        self._reset: _Reset | None = _Reset(task, seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='simulation', daemon=True)

    def start(self) -> None:
        """Start simulating, with the first episode."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread and free the renderer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def command_velocity(self, linear_m_s: np.ndarray) -> None:
        """Command an end-effector velocity [3], finite, m/s in the base frame; the latest wins."""
        with self._lock:
            self._twist = linear_m_s

    def command_gripper(self, gripper: float) -> None:
        """Command the gripper, finite, 0 open .. 1 closed; the latest wins."""
        with self._lock:
            self._gripper = gripper

    def reset(self, task: str, seed: int, timeout_s: float = 30.0) -> bool:
        """Start an episode and wait for it; False if it has not started in time."""
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
        arms: dict[str, SimulatedArm] = {}
        request: _Reset | None
        try:
            arm_module, task_module = import_simulator()
            simulated_ns = 0
            while not self._stop.is_set():
                with self._lock:
                    request, self._reset = self._reset, None
                if request is not None:
                    scene = task_module.TASKS[request.task].scene
                    arm = self._begin(arms, arm_module.SimulatedArm, scene, request)
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

    def _begin(
        self,
        arms: dict[str, 'SimulatedArm'],
        make_arm: Callable[[str, int], 'SimulatedArm'],
        scene: str,
        request: '_Reset',
    ) -> 'SimulatedArm':
        """
        Begin an episode with the arm of the scene, which is made once and kept.

        Making models and OpenGL contexts again for each episode fragments the memory, which grows.
        """
        if scene in arms:
            arms[scene].reset(seed=request.seed, task=request.task)
            return arms[scene]
        arm = arms[scene] = make_arm(request.task, self._image_size)
        arm.reset(seed=request.seed)
        try:
            arm.image()  # the first image makes the OpenGL context
        except Exception as error:
            raise UserError(_rendering_advice(error)) from error
        return arm

    def _tick(self, arm: 'SimulatedArm', timing: '_Timing', simulated_ns: int) -> None:
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

    def __init__(self, task: str, seed: int) -> None:
        self.task, self.seed = task, seed
        self.done = threading.Event()


class _Periodic:
    """An event that is due at a rate in simulated time."""

    def __init__(self) -> None:
        self._next_ns = 0

    def due(self, simulated_ns: int, rate_hz: float) -> bool:
        if simulated_ns < self._next_ns:
            return False
        period_ns = round(1e9 / rate_hz)
        # Keep the phase, so that a rate that does not divide the tick rate is met on average.
        self._next_ns += period_ns
        if self._next_ns <= simulated_ns:
            self._next_ns = simulated_ns + period_ns
        return True


class _Timing:
    """Pacing of one episode: when the next tick is due on the steady clock."""

    def __init__(self, pace: Pace) -> None:
        self.state, self.camera = _Periodic(), _Periodic()
        self.image_ms = 0.0
        self._pace = pace
        self._due_s = time.monotonic()
        self._window_s, self._ticks = self._due_s, 0

    def wait_s(self, pace: Pace, listener: Listener) -> float:
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


def _rendering_advice(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f'offscreen rendering with MUJOCO_GL={os.environ.get("MUJOCO_GL", "egl")} does not '
        f'work ({first}); install libegl1 libegl-mesa0 libgl1-mesa-dri libgl1, or '
        'libosmesa6 and set MUJOCO_GL=osmesa'
    )
