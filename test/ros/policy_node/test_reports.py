"""What the policy node publishes about itself: diagnostics, and the commanded path in RViz."""

from types import SimpleNamespace

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest

pytest.importorskip('visualization_msgs')

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.ros.common.graph_checks import TYPE
from sqap_vla_ros.ros.common.problems import Problem
from sqap_vla_ros.ros.policy_node.diagnostics import SILENT_S
from sqap_vla_ros.ros.policy_node.reports import FIRST_MESSAGE_S, path_marker, Reports

from support.inputs_rig import Rig

NAMES = ('gripper', 'linear.x', 'linear.y', 'linear.z')


class Told:
    """The reports of a node with stand-ins for everything around it."""

    def __init__(self):
        self.logged, self.published, self.around = [], [], []
        self.now_s, self.inputs = 0.0, Rig().inputs
        self.inputs.since_s -= FIRST_MESSAGE_S
        node = SimpleNamespace(
            create_publisher=lambda kind, topic, qos: SimpleNamespace(
                publish=lambda message: self.published.append(message)
            ),
            get_logger=lambda: SimpleNamespace(warning=self.logged.append),
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(to_msg=Time)),
            get_fully_qualified_name=lambda: '/policy_node',
        )
        self.reports = Reports(node, 'base', SimpleNamespace(problems=lambda: self.around))
        self.reports._problems._clock = lambda: self.now_s

    def at(self, now_s, state='READY', inputs=True):
        self.now_s = now_s
        self.reports.diagnose(state, 'why', self.inputs if inputs else None)
        (status,) = self.published[-1].status
        return status


@pytest.mark.parametrize('state', ['READY', 'RUNNING', 'HOLDING'])
@pytest.mark.parametrize('silent', ['wrist/image', 'end_effector_pose', 'joint_states'])
@pytest.mark.parametrize('age_s', [np.inf, 5.0], ids=['never', 'no more'])
def test_a_required_input_that_is_silent_is_not_ok_in_any_state(monkeypatch, state, silent, age_s):
    told, ages = Told(), {}
    monkeypatch.setattr(told.inputs, 'age_s', lambda topic: ages.get(topic, 0.0))
    assert told.at(0.0, state).level == DiagnosticStatus.OK
    ages[silent] = age_s
    status = told.at(1.0, state)
    assert status.level == DiagnosticStatus.WARN and status.message.count(silent) == 1
    assert not told.logged  # it may be starting
    for now_s in range(2, 30):
        assert told.at(now_s, state).message.count(silent) == 1
    assert len(told.logged) == 1 and silent in told.logged[0]
    ages.clear()
    assert told.at(30.0, state).level == DiagnosticStatus.OK
    ages[silent] = age_s
    assert told.at(40.0, state).level == told.at(41.0 + SILENT_S, state).level
    assert len(told.logged) == 2


def test_the_first_messages_may_take_a_moment():
    told = Told()
    told.inputs.since_s += FIRST_MESSAGE_S
    assert told.at(0.0).level == DiagnosticStatus.OK
    told.inputs.since_s -= FIRST_MESSAGE_S
    assert told.at(1.0).level == DiagnosticStatus.WARN


def test_one_cause_is_one_line_in_log_and_diagnostics(monkeypatch):
    told = Told()
    monkeypatch.setattr(told.inputs, 'age_s', lambda topic: np.inf if 'wrist' in topic else 0.0)
    told.around = [Problem(TYPE, '/arm/wrist/image', '/arm/wrist/image: of another type')]
    told.reports.arguments = [Problem('argument', '-p a:=1', '-p a:=1: reaches nobody')]
    for now_s in range(9):
        status = told.at(now_s)
        assert status.level == DiagnosticStatus.WARN
        assert status.message.count('wrist') == 1 and status.message.count('reaches') == 1
    assert sorted(told.logged) == ['-p a:=1: reaches nobody', '/arm/wrist/image: of another type']
    told.around = []
    assert 'no valid message on wrist/image yet' in told.at(9.0).message
    assert told.at(10.0, 'UNREADY', inputs=False).level == DiagnosticStatus.ERROR


@pytest.mark.parametrize('unit, factor', [('m/s', 0.5), ('m', 1.0)])
def test_the_line_follows_the_velocities_from_the_end_effector(unit, factor):
    spec = ActionSpec(NAMES, ('1', unit, unit, unit), 0.5, 2)
    chunk = ActionChunk(np.array([[1, 0.1, 0, 0], [1, 0, 0.2, 0]]), spec, 5_000_000_001)
    marker = path_marker(chunk, np.array([1.0, 2.0, 3.0]), 'base')
    points = [(p.x, p.y, p.z) for p in marker.points]
    assert np.array(points) == pytest.approx(
        np.array([[1, 2, 3], [1 + 0.1 * factor, 2, 3], [1 + 0.1 * factor, 2 + 0.2 * factor, 3]])
    )
    assert marker.header.frame_id == 'base' and marker.header.stamp.nanosec == 1
    assert marker.color.a == 1.0 and marker.scale.x > 0


def test_what_has_no_path_has_no_marker():
    joints = ActionSpec(('joint_velocity.a',), ('rad/s',), 0.1, 1)
    assert path_marker(ActionChunk(np.zeros((1, 1)), joints, 0), np.zeros(3), 'base') is None
    spec = ActionSpec(NAMES, ('1', 'm/s', 'm/s', 'm/s'), 0.5, 1)
    chunk = ActionChunk(np.full((1, 4), np.nan), spec, 0)
    assert path_marker(chunk, np.zeros(3), 'base') is None
