"""Stand-ins that several files of this folder use."""

import sys
from types import ModuleType

import pytest


@pytest.fixture(scope='module')
def client():
    """Make a node that plays everybody else, in a domain of its own."""
    from support.dds import client_node, domain  # needs rclpy

    with client_node(domain()) as client:
        yield client


@pytest.fixture
def transforms(monkeypatch):
    """Stand in for tf2_ros: frame to transform, or LookupError-like exception."""
    module = ModuleType('tf2_ros')
    known = {}

    class TransformException(Exception):
        pass

    class Buffer:
        def lookup_transform(self, target, source, time):
            if source not in known:
                raise TransformException(f'"{source}" does not exist')
            return known[source]

    class TransformListener:
        def __init__(self, buffer, node):
            pass

        def unregister(self):
            pass

    module.Buffer, module.TransformListener = Buffer, TransformListener
    module.TransformException = TransformException
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return known
