"""What the policy node tells on /diagnostics."""

from collections import deque
import resource
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

from sqap_vla_ros.inference.runner import Answer


class LatencyWindow:
    """Latencies of the last inferences, and how many there were."""

    def __init__(self, length: int = 300) -> None:
        self._latencies_ms = deque(maxlen=length)
        self.inferences = self.overruns = 0
        self.last: Answer | None = None

    def add(self, answer: Answer, overrun: bool) -> None:
        """Count one inference."""
        self._latencies_ms.append(answer.inference.latencies_ms['total'])
        self.inferences += 1
        self.overruns += overrun
        self.last = answer

    def summary(self) -> dict[str, str]:
        """Percentiles in milliseconds, as text."""
        if not self._latencies_ms:
            return {}
        values = list(self._latencies_ms)
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        return {
            'inference p50 (ms)': f'{p50:.1f}',
            'inference p95 (ms)': f'{p95:.1f}',
            'inference p99 (ms)': f'{p99:.1f}',
            'inference max (ms)': f'{max(values):.1f}',
            'inferences': str(self.inferences),
            'overruns': str(self.overruns),
        }


def level_of(state: str, problems: list[str]) -> bytes:
    """Severity: emergency stop and unreadiness are errors, problems warnings."""
    if state in ('ESTOPPED', 'UNREADY'):
        return DiagnosticStatus.ERROR
    return DiagnosticStatus.WARN if problems else DiagnosticStatus.OK


def diagnostic_array(
    stamp, node_name: str, state: str, reason: str, problems: list[str], values: dict[str, str]
) -> DiagnosticArray:
    """Build one status with the state, what is wrong, and everything that can be counted."""
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


def input_values(inputs, protects: bool) -> tuple[dict[str, str], list[str]]:
    """
    Rates, ages and rejections of the input topics; and what is wrong with them.

    protects: whether the policy keeps the visual tokens around the end effector, for which it
    must know where the camera is.
    """
    now_s = time.monotonic()
    values, problems = {}, []
    for topic, rate in inputs.rates.items():
        age_s = inputs.age_s(topic)
        values[f'{topic} rate (Hz)'] = f'{rate.hz(now_s):.1f}'
        values[f'{topic} age (s)'] = f'{age_s:.3f}'
        if topic in inputs.required and age_s == np.inf:
            problems.append(f'no valid message on {topic} yet: {inputs.why_missing(topic)}')
        elif protects and topic in inputs.camera_places and age_s == np.inf:
            problems.append(
                f'no valid message on {topic} yet: {inputs.why_missing(topic)}; '
                'without it the tokens around the end effector are not protected '
                'from pruning'
            )
    values |= {f'rejected {key}': str(count) for key, count in inputs.rejected.items()}
    return values, problems + inputs.incompatible.problems()


def memory_mb() -> str:
    """Peak resident memory of the node's own process, MB."""
    return f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}'
