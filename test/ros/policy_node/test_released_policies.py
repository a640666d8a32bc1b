"""The policy node runs every released family: chunks and commands come over DDS."""

import pytest

pytest.importorskip('rclpy')

from dataclasses import replace

from sqap_vla_ros.cli import main
from sqap_vla_ros.models.import_policy import import_policy

from support.dds import wait_until
from support.policy_node_rig import PATIENCE_S, running
from support.released_families import ACTION_NAMES, FAMILIES, STATES, write_released

JOINTS = tuple(name.removeprefix('joint.') for name in STATES if name.startswith('joint.'))


@pytest.mark.parametrize('family', FAMILIES)
def test_node_runs_a_compressed_released_model(family, tmp_path, repository):
    options = write_released(family, tmp_path / 'released')
    imported, compressed = tmp_path / 'imported', tmp_path / 'compressed'
    # One camera: pi0 was trained with two, and does without. Long steps: a chunk must outlast an
    # inference on any machine.
    import_policy(
        tmp_path / 'released', imported, replace(options, cameras=('camera',), step_s=2.0)
    )
    recipe = repository / 'config' / 'recipes' / 'sqap_w4a4_prune40.yaml'
    assert main(['compress', str(imported), str(compressed), '--recipe', str(recipe)]) == 0
    with running(
        tmp_path, compressed, '-p', 'autostart:=true', '-p', 'inference_deadline_s:=30.0'
    ) as rig:
        make = rig.robot.make_joints
        rig.robot.make_joints = lambda: make((*JOINTS, 'r_close'))
        rig.wait_state('READY')
        handle = rig.goal('pick up the red cup')
        assert handle.accepted, rig.explain()
        assert wait_until(lambda: rig.chunks and rig.selections and rig.stats, PATIENCE_S), (
            rig.explain()
        )
        chunk = rig.chunks[-1]
        assert tuple(chunk.action_names) == ACTION_NAMES
        assert len(chunk.values) % len(ACTION_NAMES) == 0 and len(chunk.values) > 0
        assert len(rig.selections[-1].kept) == round(0.6 * 256)
        commands = len(rig.robot.twists)
        assert wait_until(lambda: len(rig.robot.twists) > commands + 10, PATIENCE_S), rig.explain()
        rig.wait_moving()
        handle.cancel_goal_async()
