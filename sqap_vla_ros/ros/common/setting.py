"""One parameter of a node: its default, its text and its range."""

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor


@dataclass(frozen=True)
class Setting:
    """One parameter."""

    name: str
    default: object
    text: str
    low: float | None = None
    high: float | None = None
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Give ROS the type, range and text."""
        descriptor = ParameterDescriptor(description=self.text, read_only=self.read_only)
        if self.low is not None and isinstance(self.default, int):
            descriptor.integer_range = [IntegerRange(from_value=self.low, to_value=self.high)]
        elif self.low is not None and isinstance(self.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            ]
        return descriptor
