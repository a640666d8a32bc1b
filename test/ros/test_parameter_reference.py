"""The documented parameters are those that the nodes declare."""

import pytest

pytest.importorskip('rclpy')


def test_doc_parameters_is_what_the_nodes_declare(repository):
    from sqap_vla_ros.ros.parameter_reference import reference

    assert (repository / 'doc' / 'parameters.md').read_text('utf-8') == reference(), (
        'run: python -m sqap_vla_ros.ros.parameter_reference > doc/parameters.md'
    )
