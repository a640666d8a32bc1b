"""`sqap_vla demo`: the compressed policy drives the simulated arm, as two ROS processes."""
import os
from pathlib import Path
import signal
import sys
import time

from sqap_vla_ros.errors import UserError

RECIPE = 'sqap_w4a4_prune40'
POLICY_MODULE = 'sqap_vla_ros.ros.policy_node'


def add_arguments(parser):
    """Declare the arguments."""
    parser.add_argument('--policy', type=Path,
                        help='policy directory; a float one is compressed first (default: the '
                             'policy that comes with the package)')
    parser.add_argument('--output', type=Path, default=Path('out/demo'),
                        help='directory for table, GIF and logs (default %(default)s)')
    parser.add_argument('--tasks', nargs='+', metavar='TASK', help='(default: all)')
    parser.add_argument('--seed', type=int, default=2000,
                        help='of the scenes; a failed task gets the next one too '
                             '(default %(default)s)')
    parser.add_argument('--limit', type=float, default=15.0, metavar='SECONDS',
                        help='for one attempt (default %(default)s)')
    parser.add_argument('--domain-id', type=int, help='ROS domain (default: one that is free)')


def run(arguments) -> int:
    """Run every task, print a table; 1 when fewer than 4 in 5 tasks succeeded."""
    from sqap_vla_ros.resources import find_resource
    from sqap_vla_ros.ros.child_process import isolated_environment, pick_domain_id
    from sqap_vla_ros.ros.simulation_loop import import_simulator

    began_s = time.monotonic()
    tasks = _chosen_tasks(arguments.tasks, list(import_simulator()[1].TASKS))
    policy = arguments.policy or find_resource('policies/small')
    arguments.output.mkdir(parents=True, exist_ok=True)
    domain_id = arguments.domain_id if arguments.domain_id is not None else pick_domain_id()
    environment = isolated_environment(domain_id, find_resource('config/fastdds_shm.xml'))
    os.environ.update(environment)  # this process takes part too
    children = _Children(arguments.output, environment)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        attempts, description = _drive(arguments, children, policy, tasks, domain_id)
    finally:
        children.stop()
        signal.signal(signal.SIGTERM, previous)
    return _report(arguments.output, attempts, description, time.monotonic() - began_s)


def _drive(arguments, children, policy, tasks, domain_id):
    from sqap_vla_ros.ros.demo_client import DemoClient, POLICY, SIMULATION

    compressed = policy
    # All at once: their imports take longer than what they do.
    children.start(SIMULATION, 'sqap_vla_ros.ros.sim_arm_node', '--ros-args', '-p',
                   f'task:={tasks[0]}', '-p', f'seed:={arguments.seed}')
    if not (policy / 'recipe.yaml').exists():
        compressed = arguments.output / 'policy'
        print(f'compressing {policy} with recipe {RECIPE}', flush=True)
        children.start('compress', 'sqap_vla_ros.cli', 'compress', str(policy), str(compressed),
                       '--recipe', RECIPE, ends=True)
    children.start(POLICY, POLICY_MODULE, '--ros-args', '-p',
                   f'policy:={compressed.resolve()}')
    if compressed != policy:
        children.finish('compress')
    client = DemoClient(domain_id, children.check)
    try:
        print(f'starting {SIMULATION} and {POLICY} (ROS domain {domain_id})', flush=True)
        client.wait_for_arm()
        try:
            client.start_policy()
        except UserError as error:
            raise UserError(f'{error}: {children.last_words(POLICY)}') from None
        attempts = []
        for task in tasks:
            for seed in (arguments.seed, arguments.seed + 1):
                attempts.append(_attempt(client, task, seed, arguments.limit))
                if attempts[-1].succeeded:
                    break
        return attempts, client.policy_description()
    finally:
        client.close()


def _attempt(client, task, seed, limit_s):
    instruction = client.reset(task, seed)
    print(f'  {instruction} (seed {seed}) ... ', end='', flush=True)
    attempt = client.execute(task, instruction, seed, limit_s)
    print(f'done in {attempt.seconds:.1f} s' if attempt.succeeded
          else f'failed after {attempt.seconds:.1f} s: {attempt.reason}', flush=True)
    return attempt


def _report(output, attempts, description, seconds):
    from sqap_vla_ros.ros.demo_report import enough, succeeded_tasks, table, write_gif, write_json

    text = table(attempts, description)
    print(f'\n{text}\n')
    (output / 'table.txt').write_text(text + '\n', 'utf-8')
    write_json(output / 'table.json', attempts, description)
    written = 'table.txt, table.json'
    if write_gif(output / 'demo.gif', attempts):
        written += ', demo.gif'
    print(f'{output}: {written} and logs; {seconds:.0f} s in all')
    if not enough(succeeded_tasks(attempts)):
        print('sqap_vla demo: fewer than 4 in 5 tasks succeeded', file=sys.stderr)
        return 1
    return 0


class _Children:
    """The processes of the demonstration, each with its log in the output directory."""

    def __init__(self, output, environment):
        self._output, self._environment = output, environment
        self._processes = {}
        self._ending = set()

    def start(self, name, module, *arguments, ends=False):
        """Run a module; `ends` when it does its work and ends by itself."""
        from sqap_vla_ros.ros.child_process import ChildProcess
        self._processes[name] = ChildProcess(
            name, [sys.executable, '-m', module, *arguments], self._output / f'{name}.log',
            self._environment)
        if ends:
            self._ending.add(name)

    def finish(self, name, timeout_s=180.0):
        """Wait for one that ends by itself."""
        deadline_s = time.monotonic() + timeout_s
        while self._processes[name].status is None:
            self.check()
            if time.monotonic() > deadline_s:
                raise UserError(f'{name} did not end within {timeout_s:g} s: '
                                f'{self.last_words(name)}')
            time.sleep(0.05)
        self.check()

    def check(self):
        """Raise UserError when one has ended that should not have, or not in that way."""
        for name, process in self._processes.items():
            status = process.status
            if status is not None and not (status == 0 and name in self._ending):
                raise UserError(f'{name} ended with status {status}: {self.last_words(name)}')

    def last_words(self, name):
        """Last line of its log, and where the log is."""
        process = self._processes[name]
        return f'{process.last_line()} (log: {process.log})'

    def stop(self):
        """End them, last started first: the policy sends its final hold to a living arm."""
        for name, process in reversed(self._processes.items()):
            running = process.status is None
            status = process.stop()
            if running and status != 0:
                print(f'{name} ended with status {status}: {self.last_words(name)}',
                      file=sys.stderr)


def _chosen_tasks(wanted, known):
    for task in wanted or ():
        if task not in known:
            raise UserError(f'--tasks: there is no {task!r}; expected some of {", ".join(known)}')
    return wanted or known


def _interrupt(*_):
    raise KeyboardInterrupt
