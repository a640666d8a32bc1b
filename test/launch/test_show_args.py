"""`ros2 launch --show-args` describes every argument of every launch file."""

from pathlib import Path
import shutil
import subprocess

import pytest

pytest.importorskip('launch_ros', reason='launch_ros is not installed: it comes with ROS 2')
pytest.importorskip('ros2launch', reason='ros2launch is not installed: it comes with ROS 2')

LAUNCH_FILES = sorted(
    path.name for path in (Path(__file__).parents[2] / 'launch').glob('*.launch.py')
)


@pytest.mark.skipif(shutil.which('ros2') is None, reason='the ros2 program is not on the path')
@pytest.mark.parametrize('name', LAUNCH_FILES)
def test_every_argument_is_described(name, repository):
    finished = subprocess.run(
        ['ros2', 'launch', str(repository / 'launch' / name), '--show-args'],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout
    assert "'namespace':" in text and "'policy':" in text
    assert 'no description given' not in text.lower()


@pytest.mark.parametrize('name', LAUNCH_FILES)
def test_the_policy_is_never_started_again_by_itself(name, repository):
    assert 'respawn=' not in (repository / 'launch' / name).read_text('utf-8')
    assert 'respawn=' not in (repository / 'sqap_vla_ros/ros/launching.py').read_text('utf-8')
