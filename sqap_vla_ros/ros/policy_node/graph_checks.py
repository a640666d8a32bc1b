"""What is wrong with how the policy node is connected to others, and what helps."""

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_POLICIES = {
    1: 'other',
    2: 'durability',
    4: 'deadline',
    8: 'liveliness',
    16: 'reliability',
    32: 'history',
    64: 'lifespan',
    128: 'depth',
}
"""rmw_qos_policy_kind_t."""


class IncompatibleQos:
    """Topics whose publishers offer less than a subscription of ours demands."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def callbacks(self, topic: str) -> SubscriptionEventCallbacks:
        """Event callbacks for the subscription of a topic."""

        def note(event) -> None:
            policy = _POLICIES.get(int(event.last_policy_kind), 'quality of service')
            self._found[topic] = (
                f'{topic}: a publisher offers less {policy} than is needed, so that its messages '
                f'do not come; change the {policy} of the publisher, or that of this node by '
                f'qos_overrides'
            )

        return SubscriptionEventCallbacks(incompatible_qos=note)

    def problems(self) -> list[str]:
        """One line a topic."""
        return list(self._found.values())


def other_publishers(node, topics: list[str]) -> list[str]:
    """Name whoever else publishes on topics that only one node should command on."""
    problems = []
    for topic in topics:
        resolved = node.resolve_topic_name(topic)
        others = sorted(
            {
                info.node_name
                for info in node.get_publishers_info_by_topic(resolved)
                if (info.node_name, info.node_namespace) != (node.get_name(), node.get_namespace())
            }
        )
        if others:
            problems.append(
                f'{topic}: also published by {", ".join(others)}; stop it, or give '
                'it another topic: two sources of commands fight each other'
            )
    return problems
