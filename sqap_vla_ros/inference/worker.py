"""
The inference worker: a process that loads a policy and answers one request after another.

Started by `inference.client`; ends when the socket to the node closes, however the node died.
"""

import argparse
from multiprocessing.connection import Connection
import os
import signal
import sys

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.engine import failure, load_engine
from sqap_vla_ros.inference.wire import (
    inference_to_wire,
    info_to_wire,
    observation_from_wire,
    receive,
    send,
    SharedImages,
)


def main(argv: list[str] | None = None, load=load_engine) -> int:
    """Serve until the node hangs up. load: makes the engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--socket', type=int, required=True)
    parser.add_argument('--memory', type=int, required=True)
    parser.add_argument('--policy', required=True)
    parser.add_argument('--device', required=True)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--cuda-graphs', default='auto')
    arguments = parser.parse_args(argv)
    # The node decides when its worker ends: Ctrl-C in a terminal reaches both at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)  # the command timer goes first
    connection, images = Connection(arguments.socket), SharedImages(arguments.memory)
    try:
        return _serve(connection, images, arguments, load)
    except (EOFError, OSError):
        return 0


def _serve(connection, images, arguments, load) -> int | None:
    try:
        engine = load(
            arguments.policy,
            arguments.device,
            arguments.threads,
            cuda_graphs=arguments.cuda_graphs,
        )
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
            reason, message = failure(error)  # the node decides what comes next
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
