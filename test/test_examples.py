"""The programs of examples/ run as they are, each in a process of its own."""

import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from sqap_vla_ros.system.child_process import isolated_environment


def run_example(repository, name, *arguments, environment=None):
    """Run an example from the root of the repository; return what it printed."""
    done = subprocess.run(
        [sys.executable, f'examples/{name}.py', *map(str, arguments)],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_has_a_test(repository):
    names = {path.stem for path in (repository / 'examples').glob('*.py')}
    assert names == {'compress_and_run', 'add_output_adapter', 'add_family'}


def test_compress_and_run_prints_the_chunk_and_draws_the_kept_tokens(repository, tmp_path):
    printed = run_example(repository, 'compress_and_run', '--output', tmp_path)
    assert '144 of 144 tokens' in printed and '86 of 144 tokens' in printed
    assert 'linear.x (m/s) linear.y (m/s) linear.z (m/s)    gripper (1)' in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith('    ')]
    chunk = np.array([row for row in rows if len(row) == 5], float)
    assert chunk.shape == (16, 5)
    assert chunk[:, 0] == pytest.approx(np.arange(16) * 0.05)
    assert np.abs(chunk[:, 1:4]).max() < 0.5
    assert (tmp_path / 'sqap_w4a4_prune40' / 'recipe.yaml').exists()
    camera = np.array(Image.open(repository / 'examples' / 'camera.png').convert('RGB'), int)
    picture = np.array(Image.open(tmp_path / 'kept_tokens.png'), int)
    assert picture.shape == camera.shape
    darkened = picture.sum(-1) < camera.sum(-1) / 2
    assert 0.2 < darkened.mean() < 0.6  # 40 % of the tokens are pruned


def test_add_family_compresses_and_runs_a_family_from_outside(repository, tmp_path):
    printed = run_example(repository, 'add_family', '--output', tmp_path)
    assert '2 layers' in printed
    assert 'compressed: recipe toy_w4a8' in printed
    columns = [line for line in printed.splitlines() if 'in float' in line]
    assert len(columns) == 4
    for line in columns:
        words = line.split()
        exact, approximate = (float(word) for word in words if word[0] in '+-')
        assert approximate == pytest.approx(exact, abs=0.05)


def test_add_output_adapter_sends_commands_through_the_new_output(repository):
    pytest.importorskip('rclpy')
    from support.dds import unused_domain

    printed = run_example(
        repository, 'add_output_adapter', environment=isolated_environment(unused_domain())
    )
    assert printed.splitlines() == [
        'linear +0.00 +0.00 +0.00 m/s, angular +0.00 +0.00 +0.00 rad/s',
        'linear +0.10 -0.20 +0.05 m/s, angular +0.00 +0.00 +0.30 rad/s',
    ]
