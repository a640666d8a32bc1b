"""
An inference worker whose policy moves joints as a file says.

The file that JOINT_FILE names has a word for each joint: its velocity, rad/s. JOINT_NAMES has the
names of the joints, between commas.
"""

import os
from pathlib import Path
import sys

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.inference.engine import Engine
from sqap_vla_ros.inference.worker import main
from sqap_vla_ros.policy import Inference, Policy, PolicySpec

JOINT_FILE, JOINT_NAMES = 'SQAP_VLA_ROS_TEST_JOINT_FILE', 'SQAP_VLA_ROS_TEST_JOINT_NAMES'
ROWS, STEP_S = 32, 0.05


class JointPolicy(Policy):
    """Constant velocities."""

    def __init__(self, names: list[str], file: Path):
        count = len(names)
        action = ActionSpec(
            tuple(f'joint_velocity.{name}' for name in names), ('rad/s',) * count, STEP_S, ROWS
        )
        states = tuple(f'joint.{name}' for name in names)
        self.spec = PolicySpec(('camera',), states, ('rad',) * count, action, 4, (2, 2))
        self._file = file

    def predict(self, observation):
        velocities = np.array([float(word) for word in self._file.read_text('utf-8').split()])
        grey = observation.images['camera'].mean() / 255  # the images are used
        values = np.tile(velocities + 1e-9 * grey, (ROWS, 1)).astype(np.float32)
        return Inference(
            ActionChunk(values, self.spec.action, observation.stamp_ns), {'total': 1.0}, 4
        )

    def reset(self):
        """Do nothing: the policy has no state."""

    def describe(self):
        return {
            'recipe': 'joints',
            'backend': 'none',
            'weight_bits': 32,
            'activation_bits': 32,
            'checkpoint': 'none',
            'protection_radius_m': 0.0,
        }

    def action_bounds(self):
        bound = np.full(len(self.spec.action.names), 10.0, np.float32)
        return -bound, bound

    def typical_state(self):
        return np.zeros(len(self.spec.state_names), np.float32)


def load(*_, **__):
    return Engine(JointPolicy(os.environ[JOINT_NAMES].split(','), Path(os.environ[JOINT_FILE])))


if __name__ == '__main__':
    sys.exit(main(load=load))
