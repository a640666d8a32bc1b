"""The thread that publishes the commands of the controller at a fixed rate."""

from threading import Event, Thread
import time

from rclpy.clock import Clock
from rclpy.time import Time

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Commanded
from sqap_vla_ros.ros.common.callbacks import Report
from sqap_vla_ros.ros.common.priorities import prefer_this_thread
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs

SAME_MOMENT_NS = 100_000
"""Two clocks read within this time were read at the same moment."""
STOP_SHARE, STOP_SLACK_S = 1.2, 1.0
"""What takes longer than this share of the longest stop that the limits allow, and the slack,
is no stop; then the final hold is sent in any case."""


class CommandLoop:
    """
    Publishes the commands of a controller at a fixed rate, independent of executor and inference.

    This is not a ROS timer: a ROS timer waits for the executor and, under `use_sim_time`, for
    /clock, which a dead simulator never publishes. Late ticks are not caught up with: a burst of
    commands never happens. An error ends nothing: it is reported, which holds the arm, and the
    next command is tried.

    Args:
        clock: Clock of the node, for the stamps of the commands.
        controller: Source of the commands.
        outputs: Where they are published.
        black_box: Records them.
        rate_hz: Commands per second; may be changed at any time.
        report: Told about errors.
    """

    def __init__(
        self,
        clock: Clock,
        controller: Controller,
        outputs: AllOutputs,
        black_box: BlackBox,
        rate_hz: float,
        report: Report,
    ) -> None:
        self.rate_hz = rate_hz
        self._report = report
        self._clock, self._controller = clock, controller
        self._outputs, self._black_box = outputs, black_box
        self._still = True
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = Thread(target=self._run, name='commands', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until the arm stands still, end the thread and send a final hold."""
        limit_s = time.monotonic() + STOP_SHARE * self._controller.stop_time_s + STOP_SLACK_S
        while not self._still and time.monotonic() < limit_s:
            time.sleep(0.01)
        self._stopping.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        try:
            self._outputs.final_hold()
        except Exception as error:
            self._report('final hold', error, False)

    def _run(self) -> None:
        prefer_this_thread()
        due_s = time.monotonic()
        while not self._stopping.is_set():
            due_s = max(due_s + 1 / self.rate_hz, time.monotonic())
            self._stopping.wait(due_s - time.monotonic())
            try:
                self._tick()
            except Exception as error:
                self._report('commands', error, False)

    def _tick(self) -> None:
        now, steady_ns = read_clocks(self._clock)
        command = self._controller.tick(now.nanoseconds, steady_ns)
        # After a gap nothing is sent while a measurement is waited for, and the arm may move.
        self._still = self._controller.still if command is None else command.still
        if command is not None:
            self._outputs.publish(command, now.to_msg())
            self._black_box.add(black_box_entry(command), now.nanoseconds)


def read_clocks(clock: Clock, tries: int = 5) -> tuple[Time, int]:
    """
    Read a ROS clock and the steady clock at the same moment.

    The thread may be interrupted between the two readings. Then they are repeated, and the
    closest pair is used: the stamp of a command and the time it was limited for must agree.

    Args:
        clock: ROS clock.
        tries: Number of readings at most.

    Returns:
        Time of the ROS clock, and of the steady clock in ns.
    """
    best: tuple[int, Time, int] | None = None
    for _ in range(max(tries, 1)):
        before_ns = time.monotonic_ns()
        now = clock.now()
        steady_ns = time.monotonic_ns()
        if best is None or steady_ns - before_ns < best[0]:
            best = steady_ns - before_ns, now, steady_ns
        if best[0] < SAME_MOMENT_NS:
            break
    assert best is not None
    return best[1], best[2]


def black_box_entry(command: Command | JointCommand) -> Commanded:
    """Make the entry of the black box for a command."""
    if isinstance(command, JointCommand):
        return Commanded(joints=dict(command.velocities), gripper=command.gripper)
    return Commanded(command.linear_m_s, command.angular_rad_s, gripper=command.gripper)
