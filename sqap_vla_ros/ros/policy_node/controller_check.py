"""Asks the controllers behind the outputs for parameters that do not fit what they are sent."""

from collections.abc import Callable, Iterable, Mapping
import time
from typing import Any, NamedTuple

from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from sqap_vla_ros.profiles.notes import SERVO_TOPIC, SERVO_UNITS
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile, TRAJECTORIES

PERIOD_S = 5.0
"""Time between two questions: a controller may be started later, or again with other values. An
answer that has not come by the next one is given up."""
MAX_NAMES_SHOWN = 200
"""Characters of what comes from outside that are shown."""

Values = Mapping[str, Any]
"""Parameter name to value; a parameter that the node does not have is missing."""

SERVO_PARAMETER = 'moveit_servo.command_in_type'
TRAJECTORY_PARAMETERS = (
    'joints',
    'interpolate_from_desired_state',
    'open_loop_control',
    'interpolation_method',
    'positions_upsampling.enable',
)
_GETTERS = {
    ParameterType.PARAMETER_BOOL: 'bool_value',
    ParameterType.PARAMETER_STRING: 'string_value',
    ParameterType.PARAMETER_STRING_ARRAY: 'string_array_value',
}
_TYPES = {bool: 'a boolean', str: 'a string'}


class _Question(NamedTuple):
    """What one node is asked."""

    client: Client
    names: tuple[str, ...]
    judge: Callable[[Values], list[str]]


class ControllerCheck:
    """
    Finds parameters of MoveIt Servo and joint_trajectory_controller that spoil the motion.

    `tick` asks every node that is there, by its parameter service, and waits for nothing. A node
    without the service, or one that does not answer, is no problem: other controllers take the
    same messages.

    Args:
        node: Node that asks.
        profile: Robot profile. The node of a controller is the part of the topic before the last
            word.
    """

    def __init__(self, node: Node, profile: RobotProfile) -> None:
        self._node = node
        self._problems: dict[str, list[str]] = {}
        self._pending: dict[str, Future] = {}
        self._asked_s = -PERIOD_S
        self._questions: dict[str, _Question] = {}
        for output in profile.outputs:
            name, _, word = node.resolve_topic_name(output.topic).rpartition('/')
            if output.kind == 'twist_stamped' and word == SERVO_TOPIC:
                self._ask(name, (SERVO_PARAMETER,), _servo_problems(name))
            elif output.kind in TRAJECTORIES and word == 'joint_trajectory':
                self._ask(name, TRAJECTORY_PARAMETERS, _trajectory_problems(name, output))

    def _ask(
        self, name: str, names: tuple[str, ...], judge: Callable[[Values], list[str]]
    ) -> None:
        if name:
            client = self._node.create_client(GetParameters, f'{name}/get_parameters')
            self._questions[name] = _Question(client, names, judge)

    @property
    def problems(self) -> list[str]:
        """One line each, as of the last answers."""
        return [problem for problems in self._problems.values() for problem in problems]

    def tick(self) -> None:
        """Take the answers that have come; ask again once PERIOD_S have passed."""
        for name, future in list(self._pending.items()):
            if future.done():
                del self._pending[name]
                self._take(name, future)
        now_s = time.monotonic()
        if now_s - self._asked_s < PERIOD_S:
            return
        self._asked_s = now_s
        for name, question in self._questions.items():
            lost = self._pending.pop(name, None)
            if lost is not None:
                question.client.remove_pending_request(lost)
            if question.client.service_is_ready():
                request = GetParameters.Request(names=list(question.names))
                self._pending[name] = question.client.call_async(request)
            else:
                self._problems.pop(name, None)
                self._asked_s = min(self._asked_s, now_s - PERIOD_S + 1.0)  # look again soon

    def _take(self, name: str, future: Future) -> None:
        response = None if future.cancelled() or future.exception() else future.result()
        question = self._questions[name]
        if response is None or len(response.values) != len(question.names):
            return
        values = {
            parameter: value
            for parameter, message in zip(question.names, response.values)
            if (value := _value(message)) is not None
        }
        self._problems[name] = question.judge(values)


def _value(message: ParameterValue) -> bool | str | list[str] | None:
    getter = _GETTERS.get(message.type)
    if getter is None:
        return None
    value = getattr(message, getter)
    return value if isinstance(value, bool | str) else list(value)


def _listed(joints: Iterable[str]) -> str:
    return ascii(', '.join(joints)[:MAX_NAMES_SHOWN])[1:-1]


def _servo_problems(name: str) -> Callable[[Values], list[str]]:
    def judge(values: Values) -> list[str]:
        units = values.get(SERVO_PARAMETER)
        if not isinstance(units, str) or units == SERVO_UNITS:
            return []
        return [
            f'{name}: its parameter {SERVO_PARAMETER} is {units[:MAX_NAMES_SHOWN]!r}, expected '
            f'{SERVO_UNITS!r}: it scales the commands, so that the arm moves at another speed '
            'than commanded'
        ]

    return judge


def _trajectory_problems(name: str, output: Output) -> Callable[[Values], list[str]]:
    def judge(values: Values) -> list[str]:
        joints = values.get('joints')
        if not isinstance(joints, list):  # no joint_trajectory_controller
            return []
        problems = []
        if set(joints) != set(output.joints):
            problems.append(
                f'{name}: its parameter joints is {_listed(joints)}, and the output commands '
                f'{_listed(output.joints)}: it drops every '
                'message; set joints of the output, or joint_states.policy_names, accordingly'
            )
        if values.get('interpolation_method') == 'none':
            problems.append(
                f"{name}: its parameter interpolation_method is 'none': the arm jumps from point "
                "to point; set it to 'splines'"
            )
        elif output.kind == 'joint_trajectory_chunk':
            if values.get('positions_upsampling.enable') is not True:
                problems.append(
                    f'{name}: its parameter positions_upsampling.enable is not true: it connects '
                    'the points of joint_trajectory_chunk by straight lines, and the velocity '
                    'changes suddenly at each; set it to true, or use type: joint_trajectory'
                )
        elif not any(
            values.get(known) is True
            for known in ('interpolate_from_desired_state', 'open_loop_control')
        ):
            problems.append(
                f'{name}: its parameter interpolate_from_desired_state is not true: each '
                'trajectory starts from the measured position, and an arm whose servos lag by '
                '50 ms makes 0.4 of its path; set it to true (Humble: open_loop_control)'
            )
        return problems

    return judge
