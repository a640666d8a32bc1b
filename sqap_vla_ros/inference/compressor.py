"""
A process that makes the compressed copy of a policy, and ends.

It is started like a worker by `inference.client`, before the worker itself: what compressing took
of memory is given back, and a load can be ended at any time.
"""

from contextlib import suppress
import os
import socket
import sys

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.channel import Channel
from sqap_vla_ros.inference.engine import failure
from sqap_vla_ros.inference.worker_process import worker_parser
from sqap_vla_ros.lifeline import end_when_closed
from sqap_vla_ros.runtime_options import stay_offline


def main(argv: list[str] | None = None) -> int:
    """
    Send what is being done, then the directory of the copy, or one line about what went wrong.

    Args:
        argv: command line, as `WorkerProcess` writes it.
    """
    stay_offline()
    parser = worker_parser()
    parser.add_argument('--recipe', required=True)
    arguments = parser.parse_args(argv)
    end_when_closed(arguments.lifeline)
    os.nice(5)  # whatever else the machine does has priority
    channel = Channel(socket.socket(fileno=arguments.socket))
    try:
        # Here: an error of the imports is told like any other.
        from sqap_vla_ros.models.compressed_copy import compressed_copy

        copy = compressed_copy(
            arguments.policy,
            arguments.recipe,
            lambda text: channel.send({'kind': 'progress', 'message': text}),
        )
        channel.send({'kind': 'compressed', 'directory': str(copy)})
    except Exception as error:
        text = failure(error)[1]
        if not isinstance(error, UserError):
            text = f'policy {arguments.policy}: cannot be compressed: {text}'
        with suppress(OSError):  # nobody wants the copy any more
            channel.send({'kind': 'error', 'message': text})
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
