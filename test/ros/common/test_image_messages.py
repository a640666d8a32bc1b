"""RGB arrays become messages that give the same array back."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.images.conversion import image_to_rgb
from sqap_vla_ros.ros.common.image_messages import rgb_to_image


def test_rgb_survives_the_way_there_and_back():
    rgb = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    message = rgb_to_image(rgb)
    assert (message.encoding, message.step, len(message.data)) == ('rgb8', 15, 105)
    np.testing.assert_array_equal(image_to_rgb(message), rgb)
    with pytest.raises(ValueError):
        rgb_to_image(rgb.astype(np.float32))
