"""Joint-space control: columns by name, limits by joint, stops where a joint is unknown."""

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import Offer
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.joint_command import JointMapping
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.state_machine import Event, State
from sqap_vla_ros.errors import UserError

LIMITS = {'a': JointLimits(1.0, 5.0, None, -1.0, 1.0), 'b': JointLimits(2.0, 5.0)}
NO_WORKSPACE = MotionLimits(workspace_low_m=None, workspace_high_m=None)
PERIOD_NS = 20_000_000


def spec(*names, unit='rad/s', horizon=20):
    return ActionSpec((*names, 'gripper'), (unit,) * len(names) + ('1',), 0.05, horizon)


VELOCITIES = spec('joint_velocity.b', 'joint_velocity.a')


class Rig:
    """A running controller in joint space, on a clock of the test's own."""

    def __init__(self, action=VELOCITIES, **config):
        self.now_ns, self.action = 1_000_000_000, action
        self.controller = Controller(
            action,
            NO_WORKSPACE,
            ControllerConfig(input_timeouts_s={'joints': 0.5}, ramp_in_s=0.01, **config),
            lambda: self.now_ns,
            LIMITS,
        )
        self.positions = {'a': 0.0, 'b': 0.0}
        self.velocities = {}
        self.controller.event(Event.CONFIGURED)
        self.measure()
        assert self.controller.start().accepted

    def measure(self):
        self.controller.joints(self.positions, self.now_ns)

    def offer(self, row):
        chunk = ActionChunk(
            np.tile(np.array(row, np.float32), (self.action.horizon, 1)),
            self.action,
            self.now_ns,
            self.controller.generation,
        )
        return self.controller.offer(chunk, self.now_ns)

    def run(self, ticks, measured=True):
        for _ in range(ticks):
            self.now_ns += PERIOD_NS
            for name, velocity in self.velocities.items():
                if name in self.positions:
                    self.positions[name] += velocity * PERIOD_NS * 1e-9
            if measured:
                self.measure()
            command = self.controller.tick(self.now_ns)
            self.velocities = command.velocities
        return command


def test_columns_go_to_joints_by_name_and_gripper_follows():
    rig = Rig()
    assert rig.offer([-0.2, 0.1, 1.0]) is Offer.ACCEPTED
    command = rig.run(30)
    assert command.velocities == pytest.approx({'a': 0.1, 'b': -0.2})
    assert command.gripper == 1.0


def test_speeds_beyond_the_limits_are_scaled_alike():
    rig = Rig()
    rig.offer([4.0, 2.0, 0.0])
    command = rig.run(25)
    assert abs(command.velocities['a']) <= 1.0 and abs(command.velocities['b']) <= 2.0
    assert command.velocities['b'] == pytest.approx(2 * command.velocities['a'])


def test_a_joint_stops_before_its_end():
    rig = Rig()
    rig.positions['a'] = 0.9
    rig.measure()
    rig.offer([0.0, 1.0, 0.0])
    rig.run(45)
    assert rig.positions['a'] <= 1.0


def test_position_actions_are_approached_and_reached():
    rig = Rig(spec('joint_position.a', 'joint_position.b', unit='rad', horizon=60))
    rig.offer([0.3, -0.2, 0.0])
    rig.run(140)
    assert rig.positions == pytest.approx({'a': 0.3, 'b': -0.2}, abs=0.01)


def test_a_joint_that_is_not_measured_stops_everything():
    rig = Rig()
    rig.offer([0.5, 0.5, 0.0])
    rig.run(10)
    rig.positions = {'a': 0.1}
    rig.measure()
    command = rig.run(30)
    assert command.still


def test_stale_joints_hold():
    rig = Rig()
    rig.offer([0.5, 0.5, 0.0])
    rig.run(10)
    command = rig.run(40, measured=False)
    assert rig.controller.state is State.HOLDING and command.still


def test_values_that_are_not_finite_never_become_commands():
    rig = Rig()
    assert rig.offer([np.nan, 0.0, 0.0]) is Offer.NON_FINITE
    assert rig.run(5).still


@pytest.mark.parametrize(
    'action, words',
    [
        (spec('linear.x', 'linear.y', 'linear.z', unit='m/s'), 'take a profile with action.space'),
        (spec('joint_velocity.a', 'joint_position.b'), 'must all be'),
        (spec('joint_velocity.a'), r"the joints \['a'\], the profile has \['a', 'b'\]"),
        (spec('joint_velocity.a', 'joint_velocity.b', unit='rad'), 'units'),
        (spec('joint_velocity.a', 'joint_velocity.a'), 'more than once'),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_in_words(action, words):
    with pytest.raises(UserError, match=words):
        JointMapping(action, LIMITS)


@pytest.mark.parametrize(
    'measured, target, way', [(3.0, -3.0, 1), (-3.0, 3.0, -1), (0.5, 1.0, 1), (9.0, 0.0, -1)]
)
def test_a_continuous_joint_goes_the_short_way_round(measured, target, way):
    action = spec('joint_position.b', unit='rad')
    command = JointMapping(action, {'b': LIMITS['b']}).command(
        np.array([target, 0.0]), {'b': measured}
    )
    assert np.sign(command.velocities['b']) == way
    bounded = JointMapping(action, {'b': JointLimits(2.0, 5.0, None, -3.2, 3.2)})
    there = bounded.command(np.array([target, 0.0]), {'b': measured})
    assert np.sign(there.velocities['b']) == np.sign(target - measured)


@pytest.mark.parametrize('watched, state', [(True, State.HOLDING), (False, State.RUNNING)])
def test_only_in_a_dry_run_joints_may_stand_still_while_they_are_commanded(watched, state):
    rig = Rig(watch_tracking=watched)
    for _ in range(40):
        rig.offer([0.5, 0.2, 0.0])
        rig.now_ns += PERIOD_NS
        rig.measure()
        rig.controller.tick(rig.now_ns)
    assert rig.controller.state is state
