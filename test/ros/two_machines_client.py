"""On the arm's machine: gives goals and measures from image stamp to command. Prints JSON."""
import json
import sys

from geometry_msgs.msg import TwistStamped
import numpy as np

from sqap_vla_ros.msg import ActionChunk
from sqap_vla_ros.ros.demo_client import DemoClient
from sqap_vla_ros.ros.messages import stamp_to_ns

TASKS = ('press_red', 'press_blue', 'open_drawer')


def main():
    """Run each task until it succeeds, three times at most."""
    client = DemoClient(int(sys.argv[1]), lambda: None)
    images_ns, latencies_ms, factor = [], [], float(sys.argv[3])
    # A chunk carries its image's stamp; the next command is the first that may follow it.
    client.listen(ActionChunk, 'policy_node/action_chunk',
                  lambda message: images_ns.append(stamp_to_ns(message.header.stamp)))

    def take(message):
        while images_ns:
            age_ns = stamp_to_ns(message.header.stamp) - images_ns.pop(0)
            if age_ns > 0:
                latencies_ms.append(age_ns / 1e6 / factor)  # stamps are in simulated time
    client.listen(TwistStamped, 'twist_command', take)
    report = {'tasks': {}}
    try:
        client.wait_for_arm()
        client.start_policy()
        for task in TASKS:
            attempts = []
            for seed in range(4000, 4003):
                instruction = client.reset(task, seed)
                attempt = client.execute(task, instruction, seed, float(sys.argv[2]))
                attempts.append([attempt.succeeded, attempt.reason, round(attempt.seconds, 1),
                                 round(attempt.command_rate_hz, 1)])
                if attempt.succeeded:
                    break
            report['tasks'][task] = attempts
    finally:
        client.close()
    if latencies_ms:
        report['camera_to_command_ms'] = {
            f'p{p}': round(float(np.percentile(latencies_ms, p)), 1) for p in (50, 95, 99)}
        report |= {'chunks': len(latencies_ms), 'real_time_factor': factor}
    print(json.dumps(report), flush=True)


if __name__ == '__main__':
    main()
