"""
Problems of the ROS graph around a node: who publishes what it reads, and who takes its commands.

The graph is what the middleware has heard so far, from strangers as well: names are escaped and
cut, and what is normal while nodes start and end has to last before it is told.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from sqap_vla_ros.errors import describe
from sqap_vla_ros.ros.common.problems import Problem
from sqap_vla_ros.ros.common.qos import override_names

TYPE, QOS = 'type', 'quality of service'
"""Kinds of problems that explain why no message arrives on a topic."""
SOON_S = 5.0
"""How long what also happens while nodes start and end must last: `ros2 topic pub --once`, a
controller that is loaded a little later."""
TWIN_S = 3.0
"""The same for a node of the same name."""
RESTARTED_S = 25.0
"""The same for publishers of one name: one that was killed is in the graph for 20 s."""
SHARED = ('/tf', '/tf_static', '/parameter_events')
"""Topics that many nodes publish."""
MANY = 20
"""Endpoints of a topic that are looked at, about 0.1 ms each; more are only counted."""
UNKNOWN = '_NODE_NAME_UNKNOWN_'
SHOWN, NAMES = 80, 3
"""Characters of a name, and how many names are shown."""

_TRANSPORTS = {'sensor_msgs/msg/Image': 'compressed', 'sensor_msgs/msg/CompressedImage': 'raw'}
"""Type of a camera's messages to the other transport of the profile."""
Unserved = Callable[[], Iterable[str]]
"""Returns the actions, not resolved, that a node commands by and that nobody serves."""


class GraphChecks:
    """
    Looks for problems around one node; call it in the thread of the node's executor.

    Every subscription of the node is looked at; a look costs about 0.1 ms for each of its topics.

    Args:
        node: The node.
        commands: Topics, not resolved, whose only publisher the node should be.
        heard: Whether somebody should listen to them; not so in a dry run.
        unserved: See `Unserved`.
    """

    def __init__(
        self,
        node: Node,
        commands: Iterable[str] = (),
        heard: bool = False,
        unserved: Unserved = tuple,
    ) -> None:
        self._node, self._heard, self._unserved = node, heard, unserved
        self._commands = {node.resolve_topic_name(topic) for topic in commands}
        self._own = _full_name(node.get_name(), node.get_namespace())

    def problems(self) -> list[Problem]:
        """Look around; returns what is wrong now."""
        try:
            return self._look()
        except Exception as error:  # such as a name that is no text: no reason to stop an arm
            return [Problem('graph', self._own, f'the graph cannot be read: {describe(error)}')]

    def _look(self) -> list[Problem]:
        found = self._commanders()
        several: dict[tuple[str, ...], list[str]] = {}
        for subscription in list(self._node.subscriptions):
            if subscription.topic_name not in SHARED:
                problems, publishers = self._input(subscription)
                found += problems
                if len(publishers) > 1:
                    several.setdefault(publishers, []).append(subscription.topic_name)
        found += [_contradiction(topics, publishers) for publishers, topics in several.items()]
        if self._heard:
            for publisher in list(self._node.publishers):
                if publisher.topic_name in self._commands:
                    found += self._listeners(publisher)
            for action in self._unserved():
                found.append(self._server(action))
        return found

    def _input(self, subscription: Subscription) -> tuple[list[Problem], tuple[str, ...]]:
        """Find problems of one input, and the names of the publishers that reach it."""
        topic, wanted = subscription.topic_name, type_name(subscription.msg_type)
        count = self._node.count_publishers(topic)
        if count > MANY:
            text = f'{topic}: {count} publishers, expected one: leave one of them'
            return [Problem('publishers', topic, text, SOON_S)], ()
        publishers = self._node.get_publishers_info_by_topic(topic)
        found: list[Problem] = []
        fitting = []
        others = [info for info in publishers if info.topic_type != wanted]
        if others:
            text = (
                f'{topic}: {_shown(others[0].topic_type)} is published there by {_names(others)}, '
                f'expected {wanted}: the messages do not arrive; {_other_topic(wanted)}'
            )
            found.append(Problem(TYPE, topic, text))
        mismatched: dict[str, list[Any]] = {}
        for info in publishers:
            if info.topic_type != wanted:
                continue
            policy = mismatch(info.qos_profile, subscription.qos_profile)
            if policy is None:
                fitting.append(info)
            else:
                mismatched.setdefault(policy, []).append(info)
        for policy, infos in mismatched.items():
            found.append(Problem(QOS, topic, self._mismatched(topic, policy, infos, subscription)))
        if subscription.topic == '/clock' and not publishers:
            text = (
                f'{topic}: nobody publishes it, and use_sim_time is set: time stands still; start '
                'the simulation (or its bridge), or set use_sim_time to false'
            )
            found.append(Problem('clock', topic, text, SOON_S))
        return found, tuple(sorted(map(_name, fitting)))

    def _mismatched(
        self, topic: str, policy: str, infos: Sequence[Any], subscription: Subscription
    ) -> str:
        offered = getattr(infos[0].qos_profile, policy).name.lower()
        requested = getattr(subscription.qos_profile, policy).name.lower()
        text = (
            f'{topic}: the {policy} of a publisher is incompatible: {_names(infos)} offers '
            f'{offered}, {requested} is requested, so its messages do not arrive; change it there'
        )
        for parameter in override_names(topic):
            if parameter.endswith(policy) and self._node.has_parameter(parameter):
                text += f', or start this node with -p {parameter}:={offered}'
        return text

    def _commanders(self) -> list[Problem]:
        """Find other sources of commands, and other nodes of the same name."""
        others: dict[tuple[str, ...], list[str]] = {}
        shared = []
        found = []
        for topic in sorted(self._commands):
            count = self._node.count_publishers(topic)
            if count > MANY:
                text = f'{topic}: {count} publishers, expected this node alone: stop the others'
                found.append(Problem('commands', topic, text))
                continue
            infos = self._node.get_publishers_info_by_topic(topic)
            names = [_name(info) for info in infos]
            strangers = tuple(sorted(set(names) - {self._own}))
            if strangers:
                others.setdefault(strangers, []).append(topic)
            if names.count(self._own) > 1:
                shared.append(topic)
        found += [
            Problem(
                'commands',
                topics[0],
                f'{", ".join(topics)}: also published by {_listed(names)}; stop it, or give it '
                'another topic: the arm must have one source of commands',
                SOON_S if any(UNKNOWN in name for name in names) else 0.0,
            )
            for names, topics in others.items()
        ]
        twins = [
            _full_name(name, namespace)
            for name, namespace in self._node.get_node_names_and_namespaces()
        ].count(self._own)
        if shared:
            text = (
                f'{", ".join(shared)}: also published by another node named {self._own}; stop one '
                'of them: the arm must have one source of commands'
            )
            found.append(Problem('name', self._own, text, TWIN_S))
        elif twins > 1:
            text = (
                f'another node is named {self._own}: services, parameters and goals reach one of '
                'them by chance; stop one, or start it with -r __node:=NAME or -r __ns:=/NAME'
            )
            found.append(Problem('name', self._own, text, TWIN_S))
        return found

    def _listeners(self, publisher: Publisher) -> list[Problem]:
        """Find out that nobody takes the commands of a publisher."""
        topic, sent = publisher.topic_name, type_name(publisher.msg_type)
        if self._node.count_subscribers(topic) > MANY:
            return []
        infos = [
            info
            for info in self._node.get_subscriptions_info_by_topic(topic)
            # Names with an underscore are hidden: tools such as `ros2 topic echo`.
            if info.node_name == UNKNOWN or not info.node_name.startswith('_')
        ]
        policies = [
            mismatch(publisher.qos_profile, info.qos_profile)
            for info in infos
            if info.topic_type == sent
        ]
        if None in policies:
            return []
        if policies:
            why = (
                f'the {policies[0]} that {_names(infos)} requests is more than the volatile, '
                'reliable commands offer: nobody takes them; change it there'
            )
        elif infos:
            why = (
                f'{_names(infos)} listens for {_shown(infos[0].topic_type)}, and the commands are '
                f'{sent}: nobody takes them; change the type there, or outputs of the profile'
            )
        else:
            why = (
                'nobody listens to the commands; start the controller, or remap the topic, or '
                'name its topic in the profile'
            )
        return [Problem('commands nobody takes', topic, f'{topic}: {why}', SOON_S)]

    def _server(self, action: str) -> Problem:
        """Say that nobody serves an action, and what is served by this name instead."""
        resolved = self._node.resolve_service_name(f'{action}/_action/send_goal')
        kinds = dict(self._node.get_service_names_and_types()).get(resolved, [])
        name = resolved.removesuffix('/_action/send_goal')
        why = 'nobody serves this action'
        if kinds:
            why += f' with the type of the profile, but {_shown(kinds[0])}'
        text = (
            f'{name}: {why}; start the controller of the gripper, or change gripper.outputs in '
            'the profile'
        )
        return Problem('commands nobody takes', name, text, SOON_S)


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


def mismatch(offered: QoSProfile, requested: QoSProfile) -> str | None:
    """
    Find the policy for which a subscription requests more than a publisher offers.

    Args:
        offered: Quality of service of the publisher.
        requested: That of the subscription, without deadline and liveliness.

    Returns:
        'reliability' or 'durability'; None if messages arrive.
    """
    if (
        offered.reliability == ReliabilityPolicy.BEST_EFFORT
        and requested.reliability == ReliabilityPolicy.RELIABLE
    ):
        return 'reliability'
    if (
        offered.durability == DurabilityPolicy.VOLATILE
        and requested.durability == DurabilityPolicy.TRANSIENT_LOCAL
    ):
        return 'durability'
    return None


def type_name(kind: Any) -> str:
    """Name of a message type, as in `ros2 topic info`."""
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def _contradiction(topics: Sequence[str], publishers: Sequence[str]) -> Problem:
    """Say that several publishers reach an input; one line for all of their topics."""
    names = sorted(set(publishers))
    text = (
        f'{", ".join(topics)}: {len(publishers)} publishers ({_listed(names)}); their messages '
        'contradict each other: leave one of them, such as the driver'
    )
    patience_s = SOON_S if len(names) > 1 else RESTARTED_S
    return Problem('publishers', _listed(names), text, patience_s)


def _other_topic(wanted: str) -> str:
    """Say what to do about a topic of another type than `wanted`."""
    transport = _TRANSPORTS.get(wanted)
    if transport is None:
        return 'remap one of them'
    return f'remap one of them, or set transport: {transport} of the camera in the profile'


def _full_name(name: str, namespace: str) -> str:
    return f'{namespace.rstrip("/")}/{name}'


def _name(info: Any) -> str:
    return _full_name(info.node_name, info.node_namespace)


def _names(infos: Iterable[Any]) -> str:
    return _listed(sorted({_name(info) for info in infos}))


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - NAMES} more' if len(names) > NAMES else ''
    return ', '.join(map(_shown, names[:NAMES])) + more


def _shown(name: str) -> str:
    """Escape and cut a name that comes from outside."""
    return 'a node without a name' if UNKNOWN in name else ascii(name[:SHOWN])[1:-1]
