"""
A worker that speaks the protocol by hand, and breaks it as the name of its policy says.

It imports nothing heavy, so that it starts in a few hundredths of a second.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import time

from sqap_vla_ros.lifeline import end_when_closed

INFO = {
    'kind': 'ready',
    'spec': {
        'cameras': ['camera'],
        'state_names': [],
        'state_units': [],
        'action': {
            'names': ['linear.x'],
            'units': ['m/s'],
            'step_s': 0.05,
            'horizon': 2,
            'columns': [],
        },
        'visual_tokens': 4,
        'token_grid': [2, 2],
        'token_geometry': {},
        'state': [],
    },
    'description': {'recipe': 'raw'},
    'warm_up_ms': 1.0,
    'files': {'config.json': '0'},
}
"""What it says once it is ready."""
FLOOD_BYTES = 2**25


def result(request, **changes):
    """Return a good answer to a request, changed."""
    return {
        'kind': 'result',
        'sequence': request['sequence'],
        'values': [[0.5], [0.5]],
        'stamp_ns': request['stamp_ns'],
        'latencies_ms': {'total': 1.0},
        'tokens': 4,
        'note': '',
        'selection': None,
        **changes,
    }


def selection(kept):
    return {'grid': [2, 2], 'kept': kept, 'criterion': [0] * len(kept), 'geometry': {}}


WRONG = {
    'short': {'values': [[0.5]]},
    'wide': {'values': [[0.5, 0.5], [0.5, 0.5]]},
    'ragged': {'values': [[0.5], []]},
    'flat': {'values': [0.5, 0.5]},
    'text': {'values': [['a'], ['b']]},
    'object': {'values': {}},
    'without_total': {'latencies_ms': {}},
    'latency_text': {'latencies_ms': {'total': 'soon'}},
    'tokens_text': {'tokens': 'four'},
    'tokens_negative': {'tokens': -1},
    'no_note': {'note': None},
    'other_stamp': {'stamp_ns': 1},
    'no_stamp': {'stamp_ns': None},
    'kept_outside': {'selection': selection([0, 4])},
    'kept_negative': {'selection': selection([-1])},
    'kept_text': {'selection': selection(['x'])},
    'no_grid': {'selection': {'kept': [0], 'criterion': [0]}},
}
"""Answers that cannot be used; the worker is in order otherwise."""


class Worker:
    def __init__(self, connection):
        self.connection = connection

    def send(self, message):
        self.raw(json.dumps(message).encode())

    def raw(self, data):
        self.connection.sendall(struct.pack('!I', len(data)) + data)

    def receive(self):
        head = self.connection.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:  # the node is gone, and ends this process in a moment
            sys.exit(1)
        (length,) = struct.unpack('!I', head)
        return json.loads(self.connection.recv(length, socket.MSG_WAITALL))

    # The ways to break it; each gets the request, or nothing while it loads.

    def half(self, *_):
        self.connection.sendall(struct.pack('!i', 1000) + b'{"kind": ')
        time.sleep(1e6)

    def half_a_header(self, *_):
        self.connection.sendall(b'\0\0')
        time.sleep(1e6)

    def dripping(self, request=None):
        data = json.dumps(INFO if request is None else result(request)).encode()
        self.connection.sendall(struct.pack('!I', len(data)))
        for byte in data:
            self.connection.sendall(bytes([byte]))
            time.sleep(0.1)

    def hanging(self, *_):
        time.sleep(1e6)

    def dead(self, *_):
        os._exit(3)

    def endless(self, *_):
        self.connection.sendall(b'\xff\xff\xff\xff')
        time.sleep(1e6)

    def garbage(self, *_):
        self.raw(b'\x80\x04 pickle')
        time.sleep(1e6)

    def nested(self, *_):
        self.raw(b'[' * 100_000)
        time.sleep(1e6)

    def a_list(self, *_):
        self.raw(b'[]')
        time.sleep(1e6)

    def empty(self, *_):
        self.send({})
        time.sleep(1e6)

    def stale(self, request):
        self.send(result(request, sequence=request['sequence'] - 1))

    def twice(self, request):
        self.send(result(request))
        self.send(result(request, values=[[9.0], [9.0]]))

    def closed(self, *_):
        self.connection.shutdown(socket.SHUT_RDWR)
        time.sleep(1e6)

    def talkative(self, request):
        for stream in (1, 2):
            for _ in range(FLOOD_BYTES // 2**16):
                os.write(stream, b'x' * 2**16)
        self.send(result(request))

    def nan(self, request):
        self.send(result(request, values=[[float('nan')], [0.5]]))

    def null(self, request):
        self.send(result(request, values=[[None], [0.5]]))


def main():
    parser = argparse.ArgumentParser()
    for name in ('--socket', '--memory', '--lifeline'):
        parser.add_argument(name, type=int)
    parser.add_argument('--policy')
    parser.add_argument('--runtime')
    arguments = parser.parse_args()
    end_when_closed(arguments.lifeline)
    worker = Worker(socket.socket(fileno=arguments.socket))
    mode = arguments.policy
    if mode.startswith('loading_'):
        getattr(worker, mode.removeprefix('loading_'))()
    if mode == 'with_helper':  # as a compiler
        helper = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        INFO['description']['helper'] = helper.pid
    if os.path.isfile(mode):  # what is different
        with open(mode) as file:
            INFO.update(json.load(file))
    worker.send(INFO)
    if mode == 'unasked':
        worker.send(INFO)
    if mode == 'deaf':
        time.sleep(1e6)
    while True:
        request = worker.receive()
        if request['instruction'] in WRONG:
            worker.send(result(request, **WRONG[request['instruction']]))
        elif mode.startswith('answering_'):
            getattr(worker, mode.removeprefix('answering_'))(request)
        else:
            worker.send(result(request))


if __name__ == '__main__':
    try:
        main()
    except ConnectionError:  # the node has closed the connection, and ends this process
        sys.exit(1)
