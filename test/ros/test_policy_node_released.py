"""The policy node runs every released family: chunks and commands come over DDS."""
from pathlib import Path
import sys

import pytest

pytest.importorskip('rclpy')

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from dataclasses import replace  # noqa: E402, I100

from dds import wait_until  # noqa: E402
from released_families import FAMILIES, STATES, write_released  # noqa: E402
from test_policy_node import PATIENCE_S, running  # noqa: E402

from sqap_vla_ros.cli import main  # noqa: E402
from sqap_vla_ros.models.importing import import_policy  # noqa: E402
from sqap_vla_ros.models.prismatic_import import ACTION_NAMES  # noqa: E402

JOINTS = tuple(name.removeprefix('joint.') for name in STATES if name.startswith('joint.'))


@pytest.mark.parametrize('family', FAMILIES)
def test_node_runs_a_compressed_released_model(family, tmp_path, repository):
    options = write_released(family, tmp_path / 'released')
    imported, compressed = tmp_path / 'imported', tmp_path / 'compressed'
    # One camera: pi0 was trained with two, and does without. Long steps: a chunk must outlast an
    # inference on any machine.
    import_policy(tmp_path / 'released', imported,
                  replace(options, cameras=('camera',), step_s=2.0))
    recipe = repository / 'config' / 'recipes' / 'sqap_w4a4_prune40.yaml'
    assert main(['compress', str(imported), str(compressed), '--recipe', str(recipe)]) == 0
    with running(tmp_path, compressed, '-p', 'autostart:=true',
                 '-p', 'inference_deadline_s:=30.0') as rig:
        make = rig.robot.make_joints
        rig.robot.make_joints = lambda: make((*JOINTS, 'r_close'))
        rig.wait_state('READY')
        handle = rig.goal('pick up the red cup')
        assert handle.accepted, rig.explain()
        assert wait_until(lambda: rig.chunks and rig.selections and rig.stats, PATIENCE_S), \
            rig.explain()
        chunk = rig.chunks[-1]
        assert tuple(chunk.action_names) == ACTION_NAMES
        assert len(chunk.values) % len(ACTION_NAMES) == 0 and len(chunk.values) > 0
        assert len(rig.selections[-1].kept) == round(0.6 * 256)
        commands = len(rig.robot.twists)
        assert wait_until(lambda: len(rig.robot.twists) > commands + 10, PATIENCE_S), rig.explain()
        rig.wait_moving()
        handle.cancel_goal_async()
