"""A policy node in its own process, with a stand-in robot and a user, over DDS."""

from contextlib import contextmanager

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.msg import ActionChunk, InferenceStats, TokenSelection
from sqap_vla_ros.ros.common.qos import LATCHED

from support.dds import client_node, domain, start_node, wait_until
from support.robot import Robot, speed

MODULE = 'sqap_vla_ros.ros.policy_node.node'
PATIENCE_S = 120


class Rig:
    """Stand-in robot, user and policy node."""

    def __init__(self, client, process, make_robot=Robot):
        self.client, self.process = client, process
        self.robot = make_robot(client)
        self.states = client.listen(String, 'policy_node/state', LATCHED)
        self.stats = client.listen(InferenceStats, 'policy_node/inference_stats')
        self.chunks = client.listen(ActionChunk, 'policy_node/action_chunk')
        self.selections = client.listen(TokenSelection, 'policy_node/token_selection')
        self.overlays = client.listen(Image, 'policy_node/overlay')
        self.diagnostics = client.listen(DiagnosticArray, '/diagnostics')
        self.action = ActionClient(client, ExecuteInstruction, 'execute_instruction')

    def state(self):
        return self.states[-1].data if self.states else ''

    def wait_state(self, prefix):
        assert wait_until(lambda: self.state().startswith(prefix), PATIENCE_S), self.explain()

    def explain(self):
        return f'state {self.state()!r}; log: {self.process.log.read_text()[-2000:]}'

    def service(self, name):
        return self.client.call(Trigger, f'policy_node/{name}', Trigger.Request())

    def transition(self, number):
        request = ChangeState.Request()
        request.transition.id = number
        return self.client.call(
            ChangeState, 'policy_node/change_state', request, PATIENCE_S
        ).success

    def goal(self, instruction='press the red button', **fields):
        assert self.action.wait_for_server(PATIENCE_S)
        goal = ExecuteInstruction.Goal(instruction=instruction)
        goal.max_duration.sec = fields.pop('max_duration_s', 30)
        goal.max_steps = fields.pop('max_steps', 0)
        self.feedback = []
        feedback = self.feedback
        return self.client.ask(
            lambda: self.action.send_goal_async(
                goal, feedback_callback=lambda m: feedback.append(m.feedback)
            ),
            PATIENCE_S,
        )

    def result(self, handle):
        return self.client.ask(handle.get_result_async, PATIENCE_S)

    def moving(self):
        return any(speed(t) > 1e-6 for t in self.robot.twists[-5:])

    def wait_moving(self):
        assert wait_until(self.moving, PATIENCE_S), self.explain()

    def wait_still(self):
        def still():
            before = len(self.robot.twists)
            return wait_until(lambda: len(self.robot.twists) >= before + 5, 5) and all(
                speed(t) == 0 for t in self.robot.twists[-3:]
            )

        assert wait_until(still, PATIENCE_S), self.explain()

    def counted(self, text):
        """Whether a diagnostic key with this text has a count other than 0."""
        for array in self.diagnostics[-3:]:
            for status in array.status:
                if any(text in v.key and v.value not in ('', '0') for v in status.values):
                    return True
        return False


@contextmanager
def running(tmp_path, policy, *arguments, make_robot=Robot, module=MODULE):
    domain_id = domain()
    process = start_node(module, tmp_path, domain_id, '-p', f'policy:={policy}', *arguments)
    with rig_of(process, domain_id, make_robot) as rig:
        yield rig


@contextmanager
def rig_of(process, domain_id, make_robot=Robot):
    """Yield the `Rig` of a node that was started; the node is stopped at the end."""
    try:
        with client_node(domain_id) as client:
            rig = Rig(client, process, make_robot)
            try:
                yield rig
            finally:
                rig.robot.close()
    finally:
        process.stop()
