"""A parameter that reaches nobody is told."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.ros.common.parameter_checks import unmatched_files, unused_parameters


def test_a_misspelt_parameter_is_named_with_the_one_that_was_meant():
    node = SimpleNamespace(
        _parameters={'max_linear_speed_m_s': 0, 'policy': 0},
        _parameter_overrides={'max_linear_sped_m_s': 0, 'policy': 0, 'zzz': 0},
    )
    misspelt, foreign = unused_parameters(node)
    assert "'max_linear_sped_m_s'" in misspelt and "'max_linear_speed_m_s'?" in misspelt
    assert "'zzz'" in foreign and 'doc/parameters.md' in foreign


@pytest.mark.parametrize(
    ('text', 'matches'),
    [
        ('policy_node: {ros__parameters: {a: 1}}', False),
        ('/left/policy_node: {ros__parameters: {a: 1}}', True),
        ('left: {policy_node: {ros__parameters: {a: 1}}}', True),
        ('/**: {ros__parameters: {a: 1}}', True),
        ('/left/other: {ros__parameters: {a: 1}}', False),
    ],
)
def test_a_file_for_another_node_is_told(tmp_path, text, matches):
    path = tmp_path / 'parameters.yaml'
    path.write_text(text)
    arguments = ['policy_node', '--ros-args', '--params-file', str(path)]
    lines = unmatched_files(arguments, '/left/policy_node')
    assert (not lines) if matches else (str(path) in lines[0] and '/left/policy_node' in lines[0])
