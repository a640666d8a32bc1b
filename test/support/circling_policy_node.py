"""The policy node with `faulty_worker` as its inference worker; nothing else is changed."""

import sys

from sqap_vla_ros.inference.client import ProcessInference
from sqap_vla_ros.ros.policy_node import node as policy_node


class CirclingPolicyNode(policy_node.PolicyNode):
    """Needs test/ on PYTHONPATH and `circling.FAULT_FILE` in the environment."""

    def make_client(self, policy):
        return ProcessInference(
            policy,
            deadline_s=self.settings.inference_deadline_s,
            load_timeout_s=self.settings.policy_load_timeout_s,
            module='support.faulty_worker',
        )


if __name__ == '__main__':
    policy_node.PolicyNode = CirclingPolicyNode
    sys.exit(policy_node.main())
