"""
The inference worker: a process that loads a policy and answers one request after another.

Started by `inference.client`. It ends when the socket to the node closes, and is killed by the
kernel when the node ends without closing it.
"""

import argparse
from collections.abc import Callable
import json
import os
import socket
import sys
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.channel import Channel
from sqap_vla_ros.inference.engine import Engine, failure, load_engine
from sqap_vla_ros.inference.wire import (
    inference_to_wire,
    info_to_wire,
    observation_from_wire,
    SharedImages,
)
from sqap_vla_ros.inference.worker_process import worker_parser
from sqap_vla_ros.lifeline import end_when_closed
from sqap_vla_ros.runtime_options import RuntimeOptions, stay_offline


def main(argv: list[str] | None = None, load: Callable[..., Engine] = load_engine) -> int:
    """
    Serve until the node closes the connection.

    Args:
        argv: command line, as `WorkerProcess` writes it.
        load: makes the engine of a policy and runtime options.
    """
    stay_offline()
    parser = worker_parser()
    parser.add_argument('--runtime', type=_runtime, default=RuntimeOptions())
    arguments = parser.parse_args(argv)
    end_when_closed(arguments.lifeline)
    os.nice(5)  # the node's command timer has priority
    channel = Channel(socket.socket(fileno=arguments.socket))
    try:
        return _serve(channel, SharedImages(arguments.memory), arguments, load)
    except (EOFError, OSError):
        return 0


def _runtime(text: str) -> RuntimeOptions:
    return RuntimeOptions(**json.loads(text))


def _serve(
    channel: Channel,
    images: SharedImages,
    arguments: argparse.Namespace,
    load: Callable[..., Engine],
) -> int:
    try:
        engine = load(arguments.policy, arguments.runtime)
    except Exception as error:  # also of the code of a policy: one line for the user
        text = failure(error)[1]
        if not isinstance(error, UserError):
            text = f'policy {arguments.policy}: cannot be loaded: {text}'
        channel.send({'kind': 'error', 'message': text})
        return 1
    channel.send({'kind': 'ready', **info_to_wire(engine.info)})
    while True:
        request = channel.receive()
        channel.send({'sequence': request['sequence'], **_answer(engine, request, images)})


def _answer(engine: Engine, request: dict[str, Any], images: SharedImages) -> dict[str, Any]:
    try:
        observation = observation_from_wire(request, images)
        inference = engine.infer(observation, request['reset'], request['budget'])
        return {'kind': 'result', **inference_to_wire(inference)}
    except Exception as error:  # any: the next observation may be one that the policy can read
        reason, message = failure(error)
        return {'kind': 'failed', 'reason': reason, 'message': message}


if __name__ == '__main__':
    sys.exit(main())
