"""Run on the arm's machine: send goals and print JSON with the image-to-command latency."""

import json
import sys

from sqap_vla_ros.system.client import SystemClient
from sqap_vla_ros.system.command_latency import CommandLatency

TASKS = ('press_red', 'press_blue', 'open_drawer')


def main():
    """Run each task until it succeeds, at most three times."""
    client = SystemClient(int(sys.argv[1]), lambda: None)
    latency, factor = CommandLatency(client), float(sys.argv[3])
    report = {'tasks': {}}
    try:
        client.wait_for_arm()
        client.start_policy()
        for task in TASKS:
            attempts = []
            for seed in range(4000, 4003):
                instruction = client.reset(task, seed)
                attempt = client.execute(task, instruction, seed, float(sys.argv[2]))
                attempts.append(
                    [
                        attempt.succeeded,
                        attempt.reason,
                        round(attempt.seconds, 1),
                        round(attempt.command_rate_hz, 1),
                    ]
                )
                if attempt.succeeded:
                    break
            report['tasks'][task] = attempts
    finally:
        client.close()
    if latency.latencies_ms:
        found = latency.report()
        report['camera_to_command_ms'] = {  # stamps are in simulated time
            name: round(ms / factor, 1) for name, ms in found['image_to_command_ms'].items()
        }
        report |= {'chunks': found['chunks'], 'real_time_factor': factor}
    print(json.dumps(report), flush=True)


if __name__ == '__main__':
    main()
