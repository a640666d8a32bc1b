"""
An inference worker whose policy moves the arm in a circle and fails on demand.

The name of the failure is read at each inference from the file that FAULT_FILE names; 'slow_load'
lasts until something else is there.
"""

import os
from pathlib import Path
import struct
import sys
import time

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.inference.engine import Engine
from sqap_vla_ros.inference.worker import main
from sqap_vla_ros.policy import Inference, Policy, PolicySpec

from support.circling import CHUNK_S, FAULT_FILE, SPEED_M_S, STEP_S, TURN_RAD_S

STATES = ('end_effector.x', 'end_effector.y', 'end_effector.z', 'gripper')


class CirclingPolicy(Policy):
    """Constant speed, so that the first command of a stop is recognised by its speed."""

    def __init__(self, fault_file: Path):
        names = ('linear.x', 'linear.y', 'linear.z', 'gripper')
        if fault_file.read_text('utf-8') == 'swapped':  # another policy has taken its place
            names = (names[1], names[0], *names[2:])
        action = ActionSpec(names, ('m/s', 'm/s', 'm/s', '1'), STEP_S, 16)
        self.spec = PolicySpec(('camera',), STATES, ('m', 'm', 'm', '1'), action, 4, (2, 2))
        self._fault_file = fault_file
        self.inferences = 0

    def predict(self, observation):
        fault, spec = self._fault_file.read_text('utf-8').strip(), self.spec.action
        if fault.endswith('_once'):
            self._fault_file.write_text('', 'utf-8')
            fault = fault.removesuffix('_once')
        if fault in FAILURES:
            FAILURES[fault]()
        grey = observation.images['camera'].mean() / 255  # the images are used
        times_s = observation.stamp_ns % 10**12 * 1e-9 + (np.arange(16) + 0.5) * spec.step_s
        values = np.zeros((16, 4), np.float32)
        values[:, 0] = SPEED_M_S * np.cos(TURN_RAD_S * times_s)
        values[:, 1] = SPEED_M_S * np.sin(TURN_RAD_S * times_s)
        values[:, 3] = 0.5 + 0.01 * grey
        if fault in CHANGES:
            values = CHANGES[fault](values)
        if fault == 'wrong_shape':
            spec = ActionSpec(('linear.x',), ('m/s',), 0.05, 3)
            values = np.zeros((3, 1), np.float32)
        return Inference(ActionChunk(values, spec, observation.stamp_ns), {'total': 1.0}, 4)

    def reset(self):
        """Do nothing: the policy has no state."""

    def describe(self):
        return {
            'recipe': 'circle',
            'backend': 'none',
            'weight_bits': 32,
            'activation_bits': 32,
            'checkpoint': 'none',
            'protection_radius_m': 0.06,
        }

    def action_bounds(self):
        return -np.ones(4, np.float32), np.ones(4, np.float32)

    def typical_state(self):
        return np.zeros(4, np.float32)


def exhaust():
    raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB (injected)')


def fail():
    raise RuntimeError('injected\nerror %s {0}')


def answer_half():
    """Send the beginning of an answer, and nothing more."""
    channel = int(sys.argv[sys.argv.index('--socket') + 1])
    os.write(channel, struct.pack('!I', 1000) + b'{"kind": ')
    time.sleep(10**6)


def spin():
    while True:
        pass


FAILURES = {
    'out_of_memory': exhaust,
    'error': fail,
    'die': lambda: os._exit(3),
    'hang': lambda: time.sleep(10**6),
    'half': answer_half,
    'spin': spin,
    'slow': lambda: time.sleep(0.3),
    'overrun': lambda: time.sleep(1.5 * CHUNK_S),
}
CHANGES = {
    'nan': lambda v: np.where(np.arange(16)[:, None] == 7, np.nan, v),
    'infinite': lambda v: v * np.inf,
    'fast': lambda v: v * np.float32(1000),
}


def load(*_, **__):
    fault_file = Path(os.environ[FAULT_FILE])
    if fault_file.read_text('utf-8') == 'load_hangs':
        spin()
    while fault_file.read_text('utf-8').strip() == 'slow_load':
        time.sleep(0.05)
    return Engine(CirclingPolicy(fault_file))


if __name__ == '__main__':
    sys.exit(main(load=load))
