"""
What a policy node may be busy with, and a user who stops it meanwhile; each a process.

    python -m support.loads publish KIND TOPIC RATE_HZ
    python -m support.loads ask SERVICE COUNT PERIOD_S
"""

from contextlib import suppress
import io
import json
import sys
import time

import numpy as np
from PIL import Image as Picture
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_srvs.srv import Trigger

from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.priorities import prefer_this_thread

WIDTH, HEIGHT = 3840, 2160


def raw_4k():
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return rgb_to_image(pixels)


def jpeg_4k():
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    Picture.fromarray(noise).resize((WIDTH, HEIGHT)).save(file, 'JPEG', quality=90)
    return CompressedImage(format='jpeg', data=file.getvalue())


def jpeg_scans(count=1000, size=4000):
    """Make a progressive JPEG that repeats its last scan."""
    file = io.BytesIO()
    Picture.new('RGB', (size, size), (90, 100, 110)).save(file, 'JPEG', progressive=True)
    data = file.getvalue()
    data = data[:-2] + data[data.rfind(b'\xff\xda') : -2] * count + data[-2:]
    return CompressedImage(format='jpeg', data=data)


def many_names():
    return JointState(name=['joint'] * 1_000_000, position=[0.0] * 1_000_000)


KINDS = {
    'raw_4k': (Image, raw_4k),
    'jpeg_4k': (CompressedImage, jpeg_4k),
    'jpeg_scans': (CompressedImage, jpeg_scans),
    'many_names': (JointState, many_names),
}


def publish(kind, topic, rate_hz):
    """Publish the same message, with new stamps, until SIGINT or SIGTERM."""
    message_type, make = KINDS[kind]
    node, message = Node('load'), make()
    publisher = node.create_publisher(message_type, topic, QoSProfile(depth=1))
    message.header.frame_id = 'camera_optical_frame'
    while rclpy.ok():
        message.header.stamp = node.get_clock().now().to_msg()
        with suppress(RuntimeError):  # the context may end between the two
            publisher.publish(message)
        time.sleep(1 / float(rate_hz))
    node.destroy_node()


def ask(service, count, period_s):
    """Call a service again and again; prints how long each answer took, s, as JSON."""
    prefer_this_thread()  # as a user at another machine, whom the load does not keep waiting
    node = Node('user')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    client = node.create_client(Trigger, service)
    while not client.wait_for_service(1.0):
        pass
    times_s = []
    for index in range(int(count) + 3):
        begun_s = time.monotonic()
        future = client.call_async(Trigger.Request())
        executor.spin_until_future_complete(future, 60)
        taken_s = time.monotonic() - begun_s
        assert future.done() and future.result().success, future.result()
        if index >= 3:  # the first answers include discovery
            times_s.append(taken_s)
        time.sleep(float(period_s))
    print(json.dumps(times_s), flush=True)
    node.destroy_node()


if __name__ == '__main__':
    rclpy.init()
    {'publish': publish, 'ask': ask}[sys.argv[1]](*sys.argv[2:])
    rclpy.try_shutdown()
