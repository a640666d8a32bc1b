"""Transforms of the simulated arm, where tf2_ros is installed (here: stood in for)."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

import rclpy
from rclpy.node import Node

from sqap_vla_ros.ros.sim_arm.publisher import SimArmPublisher
from sqap_vla_ros.simulation.arm import JOINTS, SimulatedArm


def test_camera_and_end_effector_are_transforms_too(monkeypatch):
    sent = {'moving': [], 'fixed': []}

    def broadcaster(kind):
        return lambda node: SimpleNamespace(sendTransform=sent[kind].append)

    monkeypatch.setitem(
        sys.modules,
        'tf2_ros',
        SimpleNamespace(
            TransformBroadcaster=broadcaster('moving'),
            StaticTransformBroadcaster=broadcaster('fixed'),
        ),
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('publisher_test', context=context)
    try:
        publisher = SimArmPublisher(node, JOINTS, publish_clock=True)
        arm = SimulatedArm('press_red', 32)
        for tick in (1, 2):
            publisher.on_tick(tick * 1_500_000_000)
            publisher.on_state(arm, tick * 1_500_000_000)
            publisher.on_image(arm, np.zeros((32, 32, 3), np.uint8), tick * 1_500_000_000)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert [t.child_frame_id for t in sent['moving']] == ['end_effector'] * 2
    assert [t.header.stamp.sec for t in sent['moving']] == [1, 3]
    assert [t.child_frame_id for t in sent['fixed']] == ['camera_optical_frame']
    assert {t.header.frame_id for kind in sent.values() for t in kind} == {'base'}
    translation = sent['moving'][0].transform.translation
    np.testing.assert_allclose([translation.x, translation.y, translation.z], arm.end_effector_m)
