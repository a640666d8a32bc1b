"""`sqap_vla demo` end to end, the scripted expert standing in for the policy node."""

from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

from sqap_vla_ros.system.client import Attempt
from sqap_vla_ros.system.demo_report import (
    compose,
    enough_succeeded,
    succeeded_tasks,
    table,
    write_gif,
    write_json,
)

from support.dds import domains, wait_until

TESTS = Path(__file__).resolve().parents[1]
RUN_DEMO = """
import sys
from sqap_vla_ros import cli
from sqap_vla_ros.system import session
session.POLICY_MODULE = 'support.expert_policy_node'
sys.exit(cli.main(['demo', *sys.argv[1:]]))
"""
DESCRIPTION = {'parameter_bytes': '2000000', 'float_parameter_bytes': '7000000', 'recipe': 'r'}


class Demo:
    """A demonstration in a process, as `sqap_vla demo` runs it."""

    def __init__(self, output, domain_id, *arguments, behaviour='expert', compressed=True):
        self.output = output
        policy = output / 'given'
        policy.mkdir(parents=True)
        if compressed:
            (policy / 'recipe.yaml').touch()
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')])
        self.process = subprocess.Popen(
            [
                sys.executable,
                '-c',
                RUN_DEMO,
                '--policy',
                str(policy),
                '--output',
                str(output),
                '--domain-id',
                str(domain_id),
                *arguments,
            ],
            env=dict(os.environ, PYTHONPATH=path, BEHAVIOUR=behaviour),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, timeout_s=240):
        """Return exit status, standard output and standard error, and look for leftovers."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert 'Traceback' not in err
        left = self.running_children()
        assert not left, (
            'a child process was left behind',
            [Path(f'/proc/{pid}/cmdline').read_bytes() for pid in left],
        )
        return self.process.returncode, out, err

    def running_children(self):
        """Find processes that have our output directory in their arguments or environment."""
        found = []
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    text = (entry / 'cmdline').read_bytes() + (entry / 'environ').read_bytes()
                    if b'MARK=' + str(self.output).encode() in text:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found


@pytest.fixture
def start(tmp_path, monkeypatch):
    demos = []

    def make(name, domain_id, *arguments, **options):
        monkeypatch.setenv('MARK', str(tmp_path / name))
        demos.append(Demo(tmp_path / name, domain_id, *arguments, **options))
        return demos[-1]

    yield make
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            demo.process.wait(60)


def test_an_able_policy_does_every_task_and_leaves_a_report(start):
    demo = start('able', domains(1)[0], '--tasks', 'press_red', 'press_green', '--limit', '60')
    status, out, err = demo.finish()
    assert status == 0, out + err
    report = json.loads((demo.output / 'table.json').read_text())
    assert report['tasks'] == {'press_red': True, 'press_green': True} and report['enough']
    assert [a['seed'] for a in report['attempts']] == [2000, 2000]
    for attempt in report['attempts']:
        assert attempt['reason'] == 'success_topic' and attempt['seconds'] > 0.5
        assert 5 < attempt['command_rate_hz'] < 55
        assert 20 <= attempt['inference_p50_ms'] <= attempt['inference_p95_ms'] < 400
        assert (attempt['tokens_kept'], attempt['tokens']) == (86, 144)
    assert report['model_memory'] == {
        'bytes': 2_000_000,
        'float_bytes': 7_000_000,
        'recipe': 'none: scripted expert',
    }
    for text in (
        'press the green button',
        'tasks done: 2 of 2',
        '7.00 MB in float32',
        '86 of 144',
    ):
        assert text in out and text in (demo.output / 'table.txt').read_text() + out
    with Image.open(demo.output / 'demo.gif') as gif:
        assert gif.n_frames > 10
    assert (demo.output / 'demo.gif').stat().st_size < 4_000_000
    assert not (demo.output / 'sim_arm_node.log').read_text().count('Traceback')


ONE_TASK = ('--tasks', 'press_red', '--limit', '2')


def test_a_policy_that_does_nothing_gets_a_second_seed_and_fails(start):
    status, out, err = start('idle', domains(1)[0], *ONE_TASK, behaviour='idle').finish()
    assert status == 1 and 'fewer than 4 in 5' in err
    assert '(seed 2000)' in out and '(seed 2001)' in out and 'tasks done: 0 of 1' in out


@pytest.mark.parametrize(
    ('failure', 'texts'),
    [
        ({'behaviour': 'broken'}, ('policy_node could not be configured', 'is truncated')),
        ({'behaviour': 'crash'}, ('policy_node ended with status 3', 'out of memory')),
        ({'compressed': False}, ('compress ended with status 2', 'config.json')),
    ],
)
def test_every_kind_of_failure_is_told_in_one_line(start, failure, texts):
    status, _, err = start('failing', domains(1)[0], *ONE_TASK, **failure).finish()
    assert status == 2 and err.count('\n') == 1
    for text in texts:
        assert text in err


def test_ctrl_c_and_sigterm_end_everything_even_a_stubborn_child(start):
    numbers = domains(2)
    demos = {
        signal.SIGINT: start('int', numbers[0], '--tasks', 'press_red', behaviour='stubborn'),
        signal.SIGTERM: start('term', numbers[1], '--tasks', 'press_red', behaviour='idle'),
    }
    for demo in demos.values():
        assert wait_until(lambda: len(demo.running_children()) >= 3, 60)
        assert wait_until(lambda: (demo.output / 'sim_arm_node.log').exists(), 60)
    for number, demo in demos.items():
        demo.process.send_signal(number)
    for demo in demos.values():
        status, _, err = demo.finish()
        assert status == 130 and 'interrupted' in err


def test_an_unknown_task_is_told_before_anything_starts(start):
    status, _, err = start('unknown', domains(1)[0], '--tasks', 'juggle').finish()
    assert status == 2 and err.count('\n') == 1 and 'juggle' in err and 'press_red' in err


def make_attempt(**changes):
    """Make an attempt with three frames of noise."""
    rng = np.random.default_rng(0)
    frames = [
        (
            rng.integers(0, 256, (48, 48, 3), dtype=np.uint8),
            rng.integers(0, 256, (96, 96, 3), dtype=np.uint8),
        )
        for _ in range(3)
    ]
    return replace(
        Attempt(
            'press_red',
            'press the red button',
            2000,
            True,
            'success_topic',
            2.34,
            49.96,
            12,
            31.2,
            44.4,
            144,
            86.0,
            frames,
        ),
        **changes,
    )


def test_four_in_five_tasks_are_enough():
    for done, total, verdict in (
        (4, 5, True),
        (3, 5, False),
        (5, 6, True),
        (4, 6, False),
        (0, 1, False),
        (1, 1, True),
    ):
        outcome = {str(index): index < done for index in range(total)}
        assert enough_succeeded(outcome) is verdict


def test_a_second_attempt_can_save_a_task_and_both_are_shown(tmp_path):
    attempts = [
        make_attempt(succeeded=False, reason='stale input: camera/image_raw is late'),
        make_attempt(seed=2001),
    ]
    assert succeeded_tasks(attempts) == {'press_red': True}
    text = table(attempts, DESCRIPTION)
    assert 'no (stale input)' in text and '2000' in text and '2001' in text
    assert '50.0 Hz' in text and '31 / 44 ms' in text and '86 of 144' in text
    write_json(tmp_path / 'table.json', attempts, DESCRIPTION)
    report = json.loads((tmp_path / 'table.json').read_text())
    assert report['attempts'][0]['reason'] == 'stale input: camera/image_raw is late'


def test_an_attempt_without_inference_has_no_latency_but_a_row():
    text = table(
        [
            make_attempt(
                succeeded=False,
                reason='goal rejected',
                inference_p50_ms=None,
                inference_p95_ms=None,
                frames=[],
            )
        ],
        DESCRIPTION,
    )
    assert 'goal rejected' in text and ' - ' in text


def test_the_gif_keeps_small_coloured_things_and_shows_how_it_ended(tmp_path):
    grey = np.full((192, 192, 3), 90, np.uint8)
    button = grey.copy()
    button[100:112, 60:72] = [13, 166, 38]
    attempt = make_attempt(frames=[(button, grey)] * 8)
    assert write_gif(tmp_path / 'demo.gif', [attempt])
    first, *_, last = compose(attempt)
    assert np.any(first[-20:] != last[-20:])
    with Image.open(tmp_path / 'demo.gif') as gif:
        pixels = np.asarray(gif.convert('RGB')).reshape(-1, 3).astype(int)
    assert np.abs(pixels - [13, 166, 38]).sum(axis=1).min() < 40


def test_a_gif_that_is_too_large_gives_up_frames_and_colours(tmp_path):
    attempt = make_attempt(frames=make_attempt().frames * 10)
    assert write_gif(tmp_path / 'large.gif', [attempt], max_bytes=10**9)
    large = (tmp_path / 'large.gif').stat().st_size
    assert write_gif(tmp_path / 'small.gif', [attempt], max_bytes=large // 3)
    assert (tmp_path / 'small.gif').stat().st_size <= large // 3


def test_without_frames_there_is_no_gif(tmp_path):
    assert not write_gif(tmp_path / 'demo.gif', [make_attempt(frames=[])])
    assert not (tmp_path / 'demo.gif').exists()
