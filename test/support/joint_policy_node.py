"""The policy node with `joint_worker` as its inference worker; nothing else is changed."""

import sys

from sqap_vla_ros.inference.client import ProcessInference
from sqap_vla_ros.ros.policy_node import node as policy_node


class JointPolicyNode(policy_node.PolicyNode):
    """Needs test/ on PYTHONPATH, and the environment of `joint_worker`."""

    def make_client(self, policy):
        return ProcessInference(
            policy, deadline_s=self.settings.inference_deadline_s, module='support.joint_worker'
        )


if __name__ == '__main__':
    policy_node.PolicyNode = JointPolicyNode
    sys.exit(policy_node.main())
