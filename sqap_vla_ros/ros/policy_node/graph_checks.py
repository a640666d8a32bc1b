"""Problems of the ROS graph around the policy node: incompatible QoS, other publishers."""

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node

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
    """Collects topics whose publishers offer less than a subscription of this node requests."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def callbacks(self, topic: str) -> SubscriptionEventCallbacks:
        """Make the event callbacks for the subscription of a topic."""

        def note(event: Any) -> None:
            policy = _POLICIES.get(int(event.last_policy_kind), 'quality of service')
            self._found[topic] = (
                f'{topic}: the {policy} of a publisher is incompatible, so its messages do not '
                f'arrive; change the {policy} of the publisher, or that of this node by '
                f'qos_overrides'
            )

        return SubscriptionEventCallbacks(incompatible_qos=note)

    def problems(self) -> list[str]:
        """One line for each topic."""
        return list(self._found.values())


def shared_topics(node: Node, inputs: Iterable[str], outputs: Iterable[str]) -> list[str]:
    """List inputs that are an output, too, after remapping: the node would listen to itself."""
    commanded = {node.resolve_topic_name(topic): topic for topic in outputs}
    found = []
    for topic in inputs:
        resolved = node.resolve_topic_name(topic)
        if resolved in commanded:
            found.append(
                f'{resolved} is the input {topic!r} and the output {commanded[resolved]!r}; remap '
                'one of them: commands are no measurements'
            )
    return found


def other_type(node: Node, topic: str, expected: type) -> str | None:
    """
    Find publishers of another message type on a topic that a node subscribes to.

    Args:
        node: Node that subscribes.
        topic: Resolved topic.
        expected: Type of message of the subscription.

    Returns:
        What is published and what was expected; None if that is the same.
    """
    package, _, _ = expected.__module__.partition('.')
    wanted = f'{package}/msg/{expected.__name__}'
    found = sorted({info.topic_type for info in node.get_publishers_info_by_topic(topic)})
    if not found or wanted in found:
        return None
    return (
        f'{found[0]} is published there, expected {wanted}; name another topic in the profile '
        '(for an image: or transport: raw or compressed)'
    )


def several_publishers(node: Node, topics: Iterable[str]) -> list[str]:
    """
    Find input topics with more than one publisher, whose messages contradict each other.

    Args:
        node: Node that subscribes.
        topics: Topics, not resolved.

    Returns:
        One line for each.
    """
    problems = []
    for topic in topics:
        found = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
        if len(found) > 1:
            names = sorted({info.node_name for info in found})
            problems.append(
                f'{topic}: {len(found)} publishers ({", ".join(names)[:200]}); their messages '
                'contradict each other: leave one of them, such as the driver'
            )
    return problems


def other_publishers(node: Node, topics: Iterable[str]) -> list[str]:
    """
    Find other nodes that publish on the command topics of a node.

    Args:
        node: Node that should be the only publisher.
        topics: Topics, not resolved.

    Returns:
        One line for each topic that has other publishers.
    """
    problems = []
    for topic in topics:
        resolved = node.resolve_topic_name(topic)
        found = [
            (info.node_name, info.node_namespace)
            for info in node.get_publishers_info_by_topic(resolved)
        ]
        own = node.get_name(), node.get_namespace()
        others = sorted({name for name, namespace in found if (name, namespace) != own})
        if found.count(own) > 1:
            others.append(f'another node named {own[0]}')
        if others:
            problems.append(
                f'{topic}: also published by {", ".join(others)}; stop it, or give '
                'it another topic: the arm must have one source of commands'
            )
    return problems
