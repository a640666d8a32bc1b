"""Run a node as a process: own signal handlers, and one line instead of a traceback."""

from collections.abc import Callable
import signal
import sys
import threading

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from sqap_vla_ros.errors import UserError


def run_node(name: str, make: Callable[[], Node], arguments: list[str] | None = None) -> int:
    """
    Make a node and spin it until SIGINT, SIGTERM or its own end.

    The signal handlers of rclpy invalidate the context before the node can publish a last message
    or free a renderer, so they are replaced.

    Args:
        name: Name of the node, for messages.
        make: Makes the node. The node may have `close()`, called before it is destroyed;
            `failure`, an exception that ends it, or None; and `finished`, true when it has
            nothing left to do.
        arguments: Command line; None: `sys.argv`.

    Returns:
        Exit status: 0, or 2 after an error of the user, which is printed in one line.
    """
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    node = None
    try:
        _initialise(arguments)
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set():
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
    finally:
        if node is not None:
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _initialise(arguments: list[str] | None) -> None:
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # the class of rcl errors is private
        raise UserError(str(error)) from None
