"""
One boundary around the callbacks of a node: an error of one of them ends nothing.

rclpy raises whatever a callback raises, and whatever it meets while it reads a message, out of
`spin_once`. It then treats the callback group of a message that it could not read as busy for
ever, so that catching the error there leaves a node that hears nothing any more.
"""

from collections import Counter
from collections.abc import Callable
import functools
import inspect
import time
import traceback
from typing import Any

from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.task import Task
from rclpy.timer import Timer

from sqap_vla_ros.errors import describe, UserError
from sqap_vla_ros.ros.common.throttle import Throttle

MAX_FAILURES, PAUSE_S = 100, 0.1
"""Failures of the executor itself, in a row, after which it gives up; and the pause after each."""
LOG_PERIOD_S = 2.0
"""Shortest time between two lines about the same callback."""

Report = Callable[[str, Exception, bool], None]
"""Called with the name of what failed, the error, and whether it only refuses a message or
request; otherwise something that the node itself does was not done."""


class GuardedExecutor(SingleThreadedExecutor):
    """
    Executes callbacks, and reports the errors that they raise.

    A message that cannot be read is skipped. A service that raises answers with an empty response,
    whose `message`, where it has one, says why.

    Args:
        report: See `Report`.
        context: Context of the nodes; None: the default one.
    """

    def __init__(self, report: Report, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._report = report
        self._failures = 0

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """
        Wait for a callback and execute it.

        Args:
            timeout_sec: Time to wait, s; None: for ever.

        Raises:
            ExternalShutdownException: The context was shut down.
            RuntimeError: The executor itself has failed `MAX_FAILURES` times in a row.
        """
        try:
            super().spin_once(timeout_sec)
        except ExternalShutdownException:
            raise
        except Exception as error:
            self._failures += 1
            self._report('executor', error, False)
            if self._failures >= MAX_FAILURES:
                raise RuntimeError(
                    f'the executor fails again and again: {describe(error)}'
                ) from None
            time.sleep(PAUSE_S)
        else:
            self._failures = 0

    def _make_handler(self, entity: Any, node: Any, take: Callable, *call: Callable) -> Task:
        """Guard the reading and the callback of an entity; `call` is given by Humble only."""
        refuses = isinstance(entity, (Subscription, Service, Client))
        if isinstance(entity, Service):
            self._guard_service(entity)

        def guarded_take(taken_from: Any) -> Any:
            try:
                taken = take(taken_from)
            except Exception as error:
                self._report(name_of(entity), error, refuses)
                return None
            return taken if call or taken is None else guarded(taken)

        def guarded(function: Callable) -> Callable:
            async def execute(*arguments: Any) -> None:
                try:
                    await function(*arguments)
                except Exception as error:
                    self._report(name_of(entity), error, refuses)

            return execute

        return super()._make_handler(entity, node, guarded_take, *map(guarded, call))

    def _guard_service(self, service: Service) -> None:
        callback = service.callback
        if isinstance(callback, _Answer) or inspect.iscoroutinefunction(callback):
            return
        service.callback = _Answer(callback, service.srv_name, self._report)


class _Answer:
    """Calls the callback of a service; where it raises, the request is refused."""

    def __init__(self, callback: Callable, name: str, report: Report) -> None:
        self._callback, self._name, self._report = callback, name, report

    def __call__(self, request: Any, response: Any) -> Any:
        try:
            return self._callback(request, response)
        except Exception as error:
            self._report(self._name, error, True)
            refused = type(response)()
            if isinstance(getattr(refused, 'message', None), str):
                refused.message = describe(error)
            return refused


class FailureLog:
    """
    Logs failures of callbacks, one line each, and counts them.

    Args:
        node: Node whose logger is used.
    """

    def __init__(self, node: Node) -> None:
        self.counts: Counter[str] = Counter()
        """'rejected NAME: error' or 'failed NAME' to how often it was."""
        self._node = node
        self._throttle = Throttle(LOG_PERIOD_S)

    def add(self, name: str, error: Exception, refused: bool) -> None:
        """Count and log a failure; the traceback is logged at level debug. See `Report`."""
        self.counts[f'rejected {name}: error' if refused else f'failed {name}'] += 1
        if not self._throttle.passes(name):
            return
        logger = self._node.get_logger()
        if refused:
            logger.warning(f'{name}: refused: {describe(error)}')
        else:
            logger.error(f'{name}: failed: {describe(error)}')
        logger.debug(''.join(traceback.format_exception(error)))


def name_of(entity: Any) -> str:
    """Name what an executor waits for: a topic, a service, or what the callback is called."""
    if isinstance(entity, Subscription):
        try:
            return entity.topic_name
        except Exception:  # it has just been destroyed
            return 'subscription'
    if isinstance(entity, Service):
        return entity.srv_name
    if isinstance(entity, Client):
        return f'answer of {entity.srv_name}'
    callback = getattr(entity, 'callback', None)
    kind = 'timer' if isinstance(entity, Timer) else type(entity).__name__
    return f'{kind} {getattr(callback, "__name__", "")}'.strip()


def logged_hook(hook: Callable) -> Callable:
    """
    Report what a hook of the lifecycle raises, which rclpy passes over in silence.

    Args:
        hook: Method of a lifecycle node that has `callback_failed`, a `Report`.

    Returns:
        The method; where `hook` raises it returns ERROR.
    """

    @functools.wraps(hook)
    def call(self: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return hook(self, state)
        except Exception as error:
            self.callback_failed(hook.__name__, error, False)
            return TransitionCallbackReturn.ERROR

    return call


def explain(error: Exception) -> str:
    """Explain an error to a user in one line; one of ours says itself what is wrong."""
    ours = isinstance(error, (UserError, ValueError))
    return ' '.join(str(error).split()) if ours else describe(error)
