"""Problems of the graph are found by name and namespace, also among nodes of one name."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.ros.policy_node.graph_checks import other_publishers, shared_topics


class StandIn:
    """A node called policy_node in /left, on whose topic others publish too."""

    def __init__(self, *publishers):
        self._publishers = publishers

    def resolve_topic_name(self, topic):
        return f'/left/{topic}'

    def get_publishers_info_by_topic(self, topic):
        return [
            SimpleNamespace(node_name=name, node_namespace=namespace)
            for name, namespace in self._publishers
        ]

    def get_name(self):
        return 'policy_node'

    def get_namespace(self):
        return '/left'


@pytest.mark.parametrize(
    ('publishers', 'found'),
    [
        ([('policy_node', '/left')], None),
        ([('policy_node', '/left'), ('teleop', '/left')], 'teleop'),
        ([('policy_node', '/left'), ('policy_node', '/')], 'policy_node'),
        ([('policy_node', '/left')] * 2, 'another node named policy_node'),
    ],
)
def test_every_other_source_of_commands_is_named(publishers, found):
    problems = other_publishers(StandIn(*publishers), ['twist_command'])
    assert [found in problem for problem in problems] == ([True] if found else [])


def test_an_input_that_is_an_output_after_remapping_is_named():
    node = StandIn()
    assert not shared_topics(node, ['joint_states', 'image'], ['commands'])
    (problem,) = shared_topics(node, ['joint_states', 'image'], ['commands', 'joint_states'])
    assert problem.startswith("/left/joint_states is the input 'joint_states' and the output ")
