"""The status that the policy node publishes on /diagnostics."""

import resource
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

from sqap_vla_ros.ros.common.problems import Problem
from sqap_vla_ros.ros.policy_node.inputs import Inputs

SILENT_S = 3.0
"""How long an input must be missing before it is logged: at the start every one is."""
UNPROTECTED = 'the tokens around the end effector are not protected from pruning'


def level_of(state: str, problems: list[str]) -> bytes:
    """Severity: ERROR in an emergency stop or before READY, WARN with problems, else OK."""
    if state in ('ESTOPPED', 'UNREADY'):
        return DiagnosticStatus.ERROR
    return DiagnosticStatus.WARN if problems else DiagnosticStatus.OK


def diagnostic_array(
    stamp: Time,
    node_name: str,
    state: str,
    reason: str,
    problems: list[str],
    values: dict[str, str],
) -> DiagnosticArray:
    """
    Build a DiagnosticArray with one status.

    Args:
        stamp: Time of the status, clock of the node.
        node_name: Fully qualified name of the node.
        state: State of the control runtime, for example 'HOLDING'.
        reason: Why it is in this state.
        problems: One line each; they raise the level to WARN.
        values: Key to value, as text.

    Returns:
        The message.
    """
    message = f'{state}: {reason}' + ''.join(f'; {problem}' for problem in problems)
    status = DiagnosticStatus(
        level=level_of(state, problems),
        name=f'{node_name}: policy',
        message=message,
        hardware_id=node_name,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def input_problems(inputs: Inputs, protects: bool) -> list[Problem]:
    """
    Find inputs from which nothing valid comes, or comes no more.

    Args:
        inputs: Inputs of the node.
        protects: Whether the policy keeps the visual tokens around the end effector, for which
            it needs the pose of the camera.

    Returns:
        The problems; the subject of each is the resolved topic.
    """
    timeout_s, found = inputs.settings.observation_timeout_s, []
    for topic in inputs.rates:
        age_s, required = inputs.age_s(topic), topic in inputs.topics.required
        if np.isinf(age_s) and (required or (protects and topic in inputs.topics.camera_places)):
            text = f'no valid message on {topic} yet: {inputs.why_missing(topic)}'
            text += '' if required else f'; without it {UNPROTECTED}'
        elif required and timeout_s < age_s < np.inf:
            text = (
                f'{topic}: no valid message for more than {timeout_s:g} s; is its source running, '
                'and are its messages valid?'
            )
        else:
            continue
        found.append(Problem('silent', inputs.resolved(topic), text, SILENT_S))
    return found


def input_values(inputs: Inputs, protects: bool) -> tuple[dict[str, str], list[str]]:
    """
    Describe the messages of the input topics.

    Args:
        inputs: Inputs of the node.
        protects: See `input_problems`.

    Returns:
        Rates, ages and rejections as key to text; and one line for each problem.
    """
    now_s = time.monotonic()
    values, problems = {}, []
    for topic, rate in inputs.rates.items():
        values[f'{topic} rate (Hz)'] = f'{rate.hz(now_s):.1f}'
        values[f'{topic} age (s)'] = f'{inputs.age_s(topic):.3f}'
        invalid = inputs.invalid.get(topic)
        if invalid is not None:
            problems.append(f'{topic}: {invalid}')
    if protects:
        problems += [f'{problem}; {UNPROTECTED}' for problem in inputs.models.problems()]
    problems += inputs.models.frame_problems()
    # Copies: other threads count.
    values |= {f'rejected {key}': str(count) for key, count in dict(inputs.rejected).items()}
    values |= {f'dropped {key}': str(count) for key, count in dict(inputs.dropped).items()}
    return values, problems + inputs.unlikely


def memory_mb() -> str:
    """Peak resident memory of the process of the node, MB, as text."""
    return f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}'
