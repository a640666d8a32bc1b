"""
Injects faults into a robot's topics, to test how the policy node handles them.

Every topic of STREAMS is republished as `faulty/TOPIC`, and the policy node is started with
remappings to these topics. Each stream has a string parameter that names its fault. See
doc/faults.md.
"""

from collections.abc import Callable
import sys
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from rosgraph_msgs.msg import Clock as ClockMsg
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.setting import Setting
from sqap_vla_ros.ros.stand_ins.corruptions import CORRUPTIONS
from sqap_vla_ros.ros.stand_ins.faulty_stream import FaultyStream

STREAMS = {
    'image': (Image, 'camera/image_raw'),
    'pose': (PoseStamped, 'end_effector_pose'),
    'joints': (JointState, 'joint_states'),
    'instruction': (String, 'instruction'),
}
"""Name of the parameter to message type and topic."""
CLOCK_FAULTS = ('none', 'back', 'ahead', 'pause')
POLL_S = 0.005
CLOCK_PERIOD_S = 0.01

SETTINGS = (
    *(
        Setting(
            name,
            'none',
            f'fault of {topic}: {", ".join(FaultyStream(CORRUPTIONS[kind]).faults)}',
        )
        for name, (kind, topic) in STREAMS.items()
    ),
    Setting('clock', 'none', f'fault of faulty/clock: {", ".join(CLOCK_FAULTS)}'),
    Setting('delay_s', 1.0, "of fault 'delay', s", 0.0, 60.0),
    Setting('copies', 100, "of each message, with fault 'flood'", 1, 10_000),
    Setting('stamp_shift_s', 10.0, "of fault 'old_stamp', s", 1.0, 86_400.0),
    Setting('clock_jump_s', 1.0, "of the clock's faults 'back' and 'ahead', s", 0.0, 3600.0),
    Setting(
        'publish_clock',
        False,
        'publish faulty/clock from the system time, for a policy node with use_sim_time',
        read_only=True,
    ),
)


def remappings(clock: bool = False) -> list[str]:
    """Make the ROS arguments with which a policy node subscribes to the faulty topics."""
    pairs = [(topic, f'faulty/{topic}') for _, topic in STREAMS.values()]
    if clock:
        pairs.append(('/clock', 'faulty/clock'))
    return [word for source, target in pairs for word in ('-r', f'{source}:={target}')]


class FaultInjectorNode(Node):
    """Everything happens in the thread of the executor. `set` does the same as the parameters."""

    def __init__(self, **options: Any) -> None:
        super().__init__('fault_injector', **options)
        self._streams = {
            name: FaultyStream(CORRUPTIONS[kind]) for name, (kind, _) in STREAMS.items()
        }
        self._outputs = {
            name: self.create_publisher(kind, f'faulty/{topic}', QoSProfile(depth=5))
            for name, (kind, topic) in STREAMS.items()
        }
        self.passed_ns: dict[str, int] = {}
        """Stream to the system time at which it last passed on an unchanged message."""
        self._values = {
            setting.name: self.declare_parameter(
                setting.name, setting.default, setting.descriptor()
            ).value
            for setting in SETTINGS
        }
        self._offset_ns = 0
        self._paused_ns: int | None = None
        self._apply(self._values)
        self.add_on_set_parameters_callback(self._set_parameters)
        for name, (kind, topic) in STREAMS.items():
            self.create_subscription(kind, topic, self._receiver(name), qos_profile_sensor_data)
        self.create_service(Trigger, '~/clear', self._clear)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(POLL_S, self._send_late, clock=steady)
        self._timer.cancel()
        if self._values['publish_clock']:
            self._clock_output = self.create_publisher(ClockMsg, 'faulty/clock', 1)
            self.create_timer(CLOCK_PERIOD_S, self._send_clock, clock=steady)

    def set(self, **values: Any) -> None:
        """Set parameters from inside the process. Raises ValueError for a wrong value."""
        result = self.set_parameters_atomically(
            [Parameter(name, value=value) for name, value in values.items()]
        )
        if not result.successful:
            raise ValueError(result.reason)

    def _receiver(self, name: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            stream = self._streams[name]
            self._send(name, stream.feed(message, time.monotonic()))
            if stream.fault == 'none':
                self.passed_ns[name] = time.time_ns()
            elif stream.fault == 'delay':
                self._timer.reset()

        return receive

    def _send(self, name: str, messages: list) -> None:
        for message in messages:
            self._outputs[name].publish(message)

    def _send_late(self) -> None:
        for name, stream in self._streams.items():
            self._send(name, stream.due(time.monotonic()))
        if all(stream.fault != 'delay' for stream in self._streams.values()):
            self._timer.cancel()

    def _send_clock(self) -> None:
        now_ns = time.time_ns() + self._offset_ns if self._paused_ns is None else self._paused_ns
        message = ClockMsg()
        message.clock.sec, message.clock.nanosec = divmod(now_ns, 1_000_000_000)
        self._clock_output.publish(message)

    def _set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {
            **self._values,
            **{p.name: p.value for p in parameters if p.name in self._values},
        }
        streams = ((name, stream.faults) for name, stream in self._streams.items())
        for name, known in (*streams, ('clock', CLOCK_FAULTS)):
            if values[name] not in known:
                return SetParametersResult(
                    successful=False,
                    reason=f'{name}: there is no fault {values[name][:60]!a}; '
                    f'expected one of {", ".join(known)}',
                )
        self._apply(values)
        return SetParametersResult(successful=True)

    def _apply(self, values: dict[str, Any]) -> None:
        for name, stream in self._streams.items():
            stream.delay_s, stream.copies = values['delay_s'], values['copies']
            stream.stamp_shift_s = values['stamp_shift_s']
            if values[name] != stream.fault:
                stream.set_fault(values[name])
                self.get_logger().info(f'{name}: {values[name]}')
        jump_ns = round(values['clock_jump_s'] * 1e9)
        self._offset_ns = {'back': -jump_ns, 'ahead': jump_ns}.get(values['clock'], 0)
        self._paused_ns = time.time_ns() if values['clock'] == 'pause' else None
        self._values = values

    def _clear(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.set(clock='none', **dict.fromkeys(STREAMS, 'none'))
        response.success, response.message = True, 'no faults'
        return response


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node('fault_injector', FaultInjectorNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
