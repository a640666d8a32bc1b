"""
The inference worker: a process that loads a policy and answers one request after another.

Started by `inference.client`. It ends when the socket to the node closes, for whatever reason.
"""

import argparse
from collections.abc import Callable
import json
from multiprocessing.connection import Connection
import os
import signal
import sys

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.engine import Engine, failure, load_engine
from sqap_vla_ros.inference.wire import (
    inference_to_wire,
    info_to_wire,
    observation_from_wire,
    receive,
    send,
    SharedImages,
    Socket,
)
from sqap_vla_ros.runtime_options import RuntimeOptions


def main(argv: list[str] | None = None, load: Callable[..., Engine] = load_engine) -> int:
    """
    Serve until the node closes the connection.

    Args:
        argv: command line, as `ProcessInference` writes it.
        load: makes the engine of a policy and runtime options.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--socket', type=int, required=True)
    parser.add_argument('--memory', type=int, required=True)
    parser.add_argument('--policy', required=True)
    parser.add_argument('--runtime', type=_runtime, default=RuntimeOptions())
    arguments = parser.parse_args(argv)
    # The node decides when its worker ends: Ctrl-C in a terminal reaches both at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)  # the node's command timer has priority
    connection: Socket = Connection(arguments.socket)
    try:
        return _serve(connection, SharedImages(arguments.memory), arguments, load)
    except (EOFError, OSError):
        return 0


def _runtime(text: str) -> RuntimeOptions:
    return RuntimeOptions(**json.loads(text))


def _serve(
    connection: Socket,
    images: SharedImages,
    arguments: argparse.Namespace,
    load: Callable[..., Engine],
) -> int:
    try:
        engine = load(arguments.policy, arguments.runtime)
    except UserError as error:
        send(connection, {'kind': 'error', 'message': str(error)})
        return 1
    send(connection, {'kind': 'ready', **info_to_wire(engine.info)})
    while True:
        request = receive(connection)
        try:
            inference = engine.infer(
                observation_from_wire(request, images), request['reset'], request['budget']
            )
        except (UserError, RuntimeError, ValueError) as error:
            reason, message = failure(error)
            send(
                connection,
                {
                    'kind': 'failed',
                    'sequence': request['sequence'],
                    'reason': reason,
                    'message': message,
                },
            )
        else:
            send(
                connection,
                {
                    'kind': 'result',
                    'sequence': request['sequence'],
                    **inference_to_wire(inference),
                },
            )


if __name__ == '__main__':
    sys.exit(main())
