"""What passes between node and worker arrives as it was sent."""

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.inference.wire import (
    inference_from_wire,
    inference_to_wire,
    info_from_wire,
    info_to_wire,
    observation_from_wire,
    observation_to_wire,
    SharedImages,
    WorkerInfo,
)
from sqap_vla_ros.policy import Continuation, Inference, Observation, PolicySpec, TokenSelection
from sqap_vla_ros.token_geometry import LETTERBOX, TokenGeometry

ACTION = ActionSpec(('linear.x', 'gripper'), ('m/s', '1'), 0.05, 3)


def test_observations_survive_the_way_and_memory_grows_with_the_images():
    writer = SharedImages.create()
    reader = SharedImages(writer.descriptor)
    rng = np.random.default_rng(0)
    for size in (8, 200, 16):
        images = {
            'a': rng.integers(0, 256, (size, size + 1, 3), np.uint8),
            'b': rng.integers(0, 256, (2, 3, 3), np.uint8),
        }
        camera = PinholeCamera(
            np.diag([100.0, 101.0, 1.0]), np.eye(4), 64, 48, 'plumb_bob', (-0.3, 0.1)
        )
        sent = Observation(
            images,
            'öffne',
            np.array([1.5, np.pi], np.float32),
            {'a': camera},
            np.array([0.1, 0.2, 0.3]),
            17 * 10**17,
            Continuation(
                rng.normal(size=(3, 2)).astype(np.float32), np.array([1, 0.5, 0], np.float32)
            ),
        )
        got = observation_from_wire(observation_to_wire(sent, writer), reader)
        assert got.instruction == sent.instruction and got.stamp_ns == sent.stamp_ns
        for name in images:
            np.testing.assert_array_equal(got.images[name], images[name])
        np.testing.assert_array_equal(got.state, sent.state)
        np.testing.assert_array_equal(got.continuation.values, sent.continuation.values)
        np.testing.assert_array_equal(got.continuation.weights, sent.continuation.weights)
        np.testing.assert_array_equal(got.end_effector_m, sent.end_effector_m)
        np.testing.assert_array_equal(got.cameras['a'].intrinsics, camera.intrinsics)
        assert got.cameras['a'].as_plain_data() == camera.as_plain_data()


def test_answers_survive_the_way_nan_included():
    values = np.array([[1, np.nan], [np.inf, 0], [0.1, -0.2]], np.float32)
    selection = TokenSelection(
        (2, 2),
        np.array([0, 3]),
        np.array([1, 2], np.uint8),
        TokenGeometry(LETTERBOX, 0.9, 224, 14),
    )
    sent = Inference(ActionChunk(values, ACTION, 5), {'total': 3.5}, 4, selection, 'cut')
    got = inference_from_wire(inference_to_wire(sent), ACTION)
    np.testing.assert_array_equal(got.chunk.values, values)
    np.testing.assert_array_equal(got.selection.kept, selection.kept)
    assert got.selection.criterion.dtype == np.uint8
    assert got.selection.geometry == selection.geometry and got.note == 'cut'
    assert not got.chunk.finite


def test_worker_info_survives_the_way():
    spec = PolicySpec(
        ('camera',),
        ('gripper',),
        ('1',),
        ACTION,
        4,
        (2, 2),
        token_geometry=TokenGeometry(LETTERBOX, 0.9, 224, 14),
        words=('press', 'red'),
        max_words=12,
    )
    info = WorkerInfo(spec, {'recipe': 'full'}, 12.5)
    assert info_from_wire(info_to_wire(info)) == info
