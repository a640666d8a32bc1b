"""Jitter of the commands while inference runs, compared with a bare loop on this machine."""

from collections.abc import Callable, Iterator
from functools import partial
import json
from pathlib import Path
import subprocess
import sys
import time

from geometry_msgs.msg import TwistStamped
import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.system.client import SystemClient
from sqap_vla_ros.system.session import SimulatedSession

TASK = 'press_box'

BARE_LOOP = """
import json, sys, time
period_s, seconds = float(sys.argv[1]), float(sys.argv[2])
times, due = [], time.monotonic()
end = due + seconds
while due < end:
    due = max(due + period_s, time.monotonic())
    time.sleep(max(due - time.monotonic(), 0))
    times.append(time.monotonic_ns())
print(json.dumps(times))
"""
"""Waits like `CommandLoop` and does nothing else: the least jitter of this machine."""


def goals(client: SystemClient, seconds: float) -> Iterator[Callable[[], object]]:
    """Start new scenes for `seconds`; yields functions that run a goal to its end."""
    seed, begun_s = 3000, time.monotonic()
    while time.monotonic() - begun_s < seconds:
        instruction = client.reset(TASK, seed)
        left_s = max(seconds - (time.monotonic() - begun_s), 1.0)
        yield partial(client.execute, TASK, instruction, seed, min(left_s, 10.0))
        seed += 1


def measure(client: SystemClient, seconds: float, rate_hz: float) -> dict:
    """
    Run goals for `seconds` and time the commands by their stamps.

    The stamps are set in the command loop at publishing, so that transport has no influence.

    Args:
        client: Client of an active policy.
        seconds: Duration.
        rate_hz: Nominal rate of the commands.

    Returns:
        See `report`.

    Raises:
        UserError: The bare loop failed.

    """
    stamps = []
    client.listen(
        TwistStamped,
        'twist_command',
        lambda message: stamps.append(stamp_to_ns(message.header.stamp)),
    )
    bare = subprocess.Popen(
        [sys.executable, '-c', BARE_LOOP, str(1 / rate_hz), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    periods_ms = []
    for execute in goals(client, seconds):
        stamps.clear()
        execute()
        periods_ms.append(np.diff(np.array(stamps)) / 1e6)
    times, _ = bare.communicate(timeout=60)
    if bare.returncode != 0:
        raise UserError('the bare loop, which commands are compared with, did not run')
    return report(np.concatenate(periods_ms), np.diff(json.loads(times)) / 1e6, rate_hz)


def report(command_ms: np.ndarray, bare_ms: np.ndarray, rate_hz: float) -> dict:
    """Return percentiles of |period - nominal| in ms, of the commands and of the bare loop."""
    nominal_ms = 1e3 / rate_hz
    result = {'rate_hz': rate_hz, 'commands': len(command_ms) + 1}
    for name, periods in (('command', command_ms), ('bare', bare_ms)):
        deviation = np.abs(periods - nominal_ms)
        result |= {
            f'{name}_deviation_p50_ms': float(np.percentile(deviation, 50)),
            f'{name}_deviation_p99_ms': float(np.percentile(deviation, 99)),
            f'{name}_deviation_max_ms': float(deviation.max()),
        }
    result['p99_above_bare_ms'] = (
        result['command_deviation_p99_ms'] - result['bare_deviation_p99_ms']
    )
    return result


def run(policy: Path, output: Path, seconds: float, rate_hz: float) -> dict:
    """Start simulated arm and policy, measure for `seconds`, and return `report`."""
    with SimulatedSession(
        policy, output, TASK, 0, policy_arguments=('-p', f'command_rate_hz:={rate_hz}')
    ) as session:
        return measure(session.client, seconds, rate_hz)
