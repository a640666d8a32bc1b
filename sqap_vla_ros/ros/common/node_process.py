"""Run a node as a process: own signal handlers, and one line instead of a traceback."""

from collections.abc import Callable, Sequence
import os
import signal
import sys
import threading
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common.callbacks import describe, FailureLog, GuardedExecutor
from sqap_vla_ros.ros.common.graph_checks import GraphChecks
from sqap_vla_ros.ros.common.parameter_checks import argument_problems
from sqap_vla_ros.ros.common.problems import ProblemLog

ENDING = tuple(
    getattr(signal, name)
    for name in (
        *('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'),
        *('SIGXCPU', 'SIGALRM', 'SIGVTALRM', 'SIGPROF'),
    )
    if hasattr(signal, name)
)
"""Signals that end a process by default and can be caught: each gets the same orderly end."""
WATCH_S = 1.0
"""Time between two looks at the graph."""


def run_node(name: str, make: Callable[[], Node], arguments: list[str] | None = None) -> int:
    """
    Make a node and spin it until a signal of `ENDING` or its own end.

    The signal handlers of rclpy invalidate the context before the node can publish a last message
    or free a renderer, so they are replaced. No error of a callback ends the node, see
    `GuardedExecutor`. What of the command line has no effect, and what is wrong in the graph
    around the node, is logged while it runs.

    Args:
        name: Name of the node, for messages.
        make: Makes the node. All of the following are optional. Methods of the node: `begin()`
            is called before it is spun; `interrupt(why)` is called once, in another thread, when
            a signal has come, also while `begin` or a callback runs, and must return soon;
            `callback_failed(name, error, refused)` is a `Report` in place of a line in the log;
            `note_arguments(problems)` takes what `argument_problems` has found, and then the node
            looks at the graph itself; `expected_names()`, `expected_actions()` and
            `expected_parameters()` are for `argument_problems`, too; `close()` is called before
            it is destroyed. Attributes of the node: `failure`, an exception that ends it, or
            None; and `finished`, true when it has nothing left to do.
        arguments: Command line; None: `sys.argv`.

    Returns:
        Exit status: 0, or 2 after an error of the user, or 1 after any other, which are printed
        in one line.
    """
    node: Node | None = None
    executor: GuardedExecutor | None = None

    def interrupt(why: str) -> None:
        if node is not None:
            getattr(node, 'interrupt', _nothing)(why)
        if executor is not None:
            executor.wake()

    with _Signals(interrupt) as signals:
        try:
            _initialise(arguments)
            node = make()
            executor = GuardedExecutor(getattr(node, 'callback_failed', FailureLog(node).add))
            executor.add_node(node)
            _watch(node, name, sys.argv if arguments is None else arguments)
            if not signals.received:
                getattr(node, 'begin', _nothing)()
            while not signals.received:
                executor.spin_once(timeout_sec=0.1)
                failure = getattr(node, 'failure', None)
                if failure is not None:
                    raise failure
                if getattr(node, 'finished', False):
                    break
            return 0
        except ExternalShutdownException:
            return 0
        except (UserError, InvalidParameterTypeException, InvalidParameterValueException) as error:
            print(f'{name}: {" ".join(str(error).split())}', file=sys.stderr)
            return 2
        except Exception as error:
            print(f'{name}: {describe(error)}', file=sys.stderr)
            return 1
        finally:
            _end(name, node, executor)


def _end(name: str, node: Node | None, executor: GuardedExecutor | None) -> None:
    steps: list[Callable[[], object]] = [rclpy.try_shutdown]
    if node is not None:
        steps = [node.destroy_node, *steps]
    if executor is not None:
        # Left to the garbage collector, it may complain that a part of it is gone.
        steps = [executor.shutdown, *steps]
    if node is not None:
        steps = [getattr(node, 'close', _nothing), *steps]
    for step in steps:
        try:
            step()
        except Exception as error:
            print(f'{name}: while it ended: {describe(error)}', file=sys.stderr)


def _watch(node: Node, name: str, arguments: Sequence[str]) -> None:
    """Tell what is wrong with the command line and the graph, unless the node does it itself."""
    problems = argument_problems(node, arguments, name)
    if hasattr(node, 'note_arguments'):
        node.note_arguments(problems)
        return
    graph, log = GraphChecks(node), ProblemLog(node.get_logger().warning)

    def look() -> None:
        log.update([*problems, *graph.problems()])

    look()
    node.create_timer(WATCH_S, look, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _nothing(*_: Any) -> None:
    """Stand for a method that a node does not have."""


class _Signals:
    """
    Notes signals, and acts on the first one at once, in a thread of its own.

    Python runs the handlers of signals in the main thread, which may be inside a call that takes
    long. The wakeup descriptor is written to before that, by the C handler.

    Args:
        act: Called with the name of the first signal.
    """

    def __init__(self, act: Callable[[str], None]) -> None:
        self.received = ''
        """Name of the first signal that came; empty: none."""
        self._act = act
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> '_Signals':
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in ENDING:
            # nohup has SIGHUP ignored, and wants it so.
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._note)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._wait, name='signals', daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.write(self._write, b'\0')
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, _: Any) -> None:
        # No lock: a second signal may interrupt this very function.
        self.received = self.received or signal.Signals(number).name

    def _wait(self) -> None:
        while True:
            (number,) = os.read(self._read, 1)
            if number == 0:
                return
            if number not in self._previous:
                continue
            self._note(number, None)
            try:
                self._act(self.received)
            except Exception as error:
                print(f'{self.received}: {describe(error)}', file=sys.stderr)
            break
        while os.read(self._read, 1) != b'\0':
            pass


def _initialise(arguments: list[str] | None) -> None:
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # the class of rcl errors is private
        raise UserError(str(error)) from None
