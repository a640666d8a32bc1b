"""The thread that serves the requests to stop: it reads no images and waits for nothing."""

from collections.abc import Callable, Mapping
from contextlib import suppress
import threading
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.service import Service
from rclpy.timer import Timer
from std_srvs.srv import Trigger

from sqap_vla_ros.control.state_machine import Transition
from sqap_vla_ros.ros.common.callbacks import GuardedExecutor, Report
from sqap_vla_ros.ros.common.priorities import prefer_this_thread


class ControlServices:
    """
    Services of a node in a thread of their own, served while the node's executor is busy.

    They are services of the node as all others are: its name, namespace and remappings hold.

    Args:
        node: Node that has the services.
        commands: Name of the service to what it does; it must not wait. Of several requests that
            came at once, those of the last ones are executed last: let these be the stops.
        told: Called after each command, before it is answered, and every `period_s`.
        period_s: See `told`.
        report: See `Report`.
    """

    def __init__(
        self,
        node: Node,
        commands: Mapping[str, Callable[[], Transition]],
        told: Callable[[], None],
        period_s: float,
        report: Report,
    ) -> None:
        self._node, self._told, self._report = node, told, report
        self._group = _ThreadGroup()
        services = [
            node.create_service(
                Trigger, f'~/{name}', self._service(name, command), callback_group=self._group
            )
            for name, command in commands.items()
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timers = [node.create_timer(period_s, told, self._group, clock=steady)]
        self._executor = _PartExecutor(_Part(services, timers), report, node.context)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='control services', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; idempotent."""
        self._stopping = True
        self._executor.wake()
        if self._thread.is_alive():
            self._thread.join()
            self._executor.shutdown()

    def _run(self) -> None:
        prefer_this_thread()
        self._group.thread = threading.get_ident()
        with suppress(ExternalShutdownException):
            while not self._stopping:
                self._executor.spin_once()

    def _service(
        self, name: str, command: Callable[[], Transition]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            transition = command()
            response.success, response.message = transition.accepted, transition.reason
            try:
                self._told()
            except Exception as error:  # the answer must not depend on what is published
                self._report(f'state after {name}', error, False)
            return response

        return serve


class _ThreadGroup(CallbackGroup):
    """Callbacks that only one thread executes; the executors of all others pass over them."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = 0

    def can_execute(self, entity: Any) -> bool:
        return threading.get_ident() == self.thread

    def beginning_execution(self, entity: Any) -> bool:
        return self.can_execute(entity)

    def ending_execution(self, entity: Any) -> None:
        """Do nothing: one thread executes one callback at a time."""


class _Part:
    """The part of a node that an executor sees."""

    def __init__(self, services: list[Service], timers: list[Timer]) -> None:
        self.services, self.timers = services, timers
        self.subscriptions: tuple = ()
        self.clients: tuple = ()
        self.guards: tuple = ()
        self.waitables: tuple = ()


class _PartExecutor(GuardedExecutor):
    """Executes callbacks of a part of a node; another executor has the node itself."""

    def __init__(self, part: _Part, report: Report, context: Any) -> None:
        super().__init__(report, context=context)
        self._part = part

    def get_nodes(self) -> list:
        return [self._part]
