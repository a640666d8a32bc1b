"""Quality of service that several nodes share, and how users change it by parameters."""

from collections.abc import Callable
from copy import copy
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription

from sqap_vla_ros.errors import UserError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""The last message also reaches subscribers that come later."""
MAX_DEPTH = 1000
"""Messages that a subscription may be told to queue."""
OVERRIDABLE = (
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
)


def override_names(topic: str) -> list[str]:
    """List the parameters that change the quality of service of a subscription by `subscribe`."""
    return [f'{_prefix(topic)}.{policy.name.lower()}' for policy in OVERRIDABLE]


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile | int,
    *,
    raw: bool = False,
) -> Subscription:
    """
    Subscribe to a topic; the parameters of `override_names` change the quality of service.

    Publishers that do not fit are told by `graph_checks`, in place of the lines of rclpy.

    Args:
        node: Node that subscribes.
        kind: Type of the messages.
        topic: Topic, not resolved.
        callback: Called with each message.
        qos: Quality of service where no parameter says otherwise; a number is the depth.
        raw: Whether the messages are given serialized.

    Returns:
        The subscription.

    Raises:
        UserError: A parameter has a value that no such quality of service has.
    """
    # A copy, as rclpy writes into it.
    profile = QoSProfile(depth=qos) if isinstance(qos, int) else copy(qos)
    try:
        return node.create_subscription(
            kind,
            topic,
            callback,
            profile,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions(OVERRIDABLE, callback=_check),
            raw=raw,
        )
    except (ParameterException, InvalidQosOverridesError, RuntimeError, ValueError) as error:
        resolved = node.resolve_topic_name(topic)
        if not set(override_names(resolved)) & set(node._parameter_overrides):
            raise
        raise UserError(
            f'parameters {_prefix(resolved)}.*: {error}; expected reliability: reliable or '
            'best_effort, durability: volatile or transient_local, history: keep_last or '
            f'keep_all, depth: 1 .. {MAX_DEPTH}'
        ) from None


def _check(qos: QoSProfile) -> SetParametersResult:
    fits = 1 <= qos.depth <= MAX_DEPTH
    return SetParametersResult(successful=fits, reason='' if fits else f'depth is {qos.depth}')


def _prefix(topic: str) -> str:
    return f'qos_overrides.{topic}.subscription'
