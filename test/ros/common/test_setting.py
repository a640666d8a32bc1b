"""Parameters as a frozen dataclass: declared on a node, checked, described."""

from dataclasses import dataclass, FrozenInstanceError

import pytest

pytest.importorskip('rclpy')

from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common.setting import declare, Setting, setting, settings_of

from support.dds import client_node, domain


@dataclass(frozen=True)
class CameraSettings:
    """Parameters of a camera that does not exist."""

    rate_hz: float = setting(20.0, 'images per second', 0.5, 60.0)
    size: int = setting(192, 'rows and columns, pixels', 32, 640, read_only=True)
    encoding: str = setting('rgb8', 'of the images', choices=('rgb8', 'bgr8'))
    device: str = setting('cpu', 'for encoding', choices=('cpu', 'cuda:N'))
    corner_m: tuple[float, float] = setting((0.0, 1.0), 'of the picture')


@pytest.fixture
def make_node():
    with client_node(domain()) as client:
        import rclpy

        made = []

        def make(**values):
            overrides = [Parameter(name, value=value) for name, value in values.items()]
            made.append(
                rclpy.create_node('camera', context=client.context, parameter_overrides=overrides)
            )
            return made[-1]

        yield make
        for node in made:
            node.destroy_node()


def test_a_dataclass_declares_its_fields(make_node):
    node = make_node(rate_hz=5.0, device='cuda:1')
    settings = declare(node, CameraSettings, {'encoding': 'bgr8', 'corner_m': [2.0, 3.0]})
    assert settings == CameraSettings(5.0, 192, 'bgr8', 'cuda:1', (2.0, 3.0))
    assert node.get_parameter('encoding').value == 'bgr8'
    with pytest.raises(FrozenInstanceError):
        settings.rate_hz = 1.0
    assert declare(node, CameraSettings) == settings  # declared already: the values stay


def test_descriptors_carry_text_range_and_choices(make_node):
    node = make_node()
    declare(node, CameraSettings)
    rate = node.describe_parameter('rate_hz')
    assert rate.description == 'images per second' and not rate.read_only
    assert rate.floating_point_range[0].to_value == 60.0
    size = node.describe_parameter('size')
    assert size.read_only and size.integer_range[0].from_value == 32
    assert node.describe_parameter('device').additional_constraints == 'one of: cpu, cuda:N'


@pytest.mark.parametrize(
    'values, words',
    [
        ({'encoding': 'mono8'}, "parameter encoding is 'mono8', expected one of rgb8, bgr8"),
        ({'device': 'cuda'}, "parameter device is 'cuda', expected one of cpu, cuda:N"),
        ({'device': 'cuda:-1'}, 'expected one of cpu, cuda:N'),
        ({'corner_m': [1.0]}, r'parameter corner_m is \[1.0\], expected 2 finite numbers'),
    ],
)
def test_a_wrong_value_is_refused_when_it_is_declared(make_node, values, words):
    with pytest.raises(UserError, match=words):
        declare(make_node(**values), CameraSettings)


def test_ros_itself_refuses_what_is_out_of_range(make_node):
    with pytest.raises(InvalidParameterValueException):
        declare(make_node(rate_hz=100.0), CameraSettings)


def test_nan_is_in_no_range():
    rate, *_ = settings_of(CameraSettings)
    assert rate == Setting('rate_hz', 20.0, 'images per second', 0.5, 60.0)
    assert rate.problem(float('nan')) == 'is nan, expected a finite number'
    assert rate.problem(20.0) is None
