"""What `fuzz_tracking` draws at random: an arm, its sensor, limits and what goes wrong."""

from dataclasses import dataclass
from math import inf
from random import Random

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.fuzz_arm import ArmModel, SensorModel
from sqap_vla_ros.control.fuzz_references import GroupReference
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.plausibility import TrackingLimits

AXES = 3
JOINTS = ('a', 'b', 'c')
LOW, HIGH = (-0.3, -0.3, -0.3), (0.3, 0.3, 0.3)
DELAY_S = 0.1
"""Of the tracking limits."""
GAIN = 0.1
"""How much faster or slower than told an arm may be."""
FAULTS = ('none', 'none', 'frozen', 'dead', 'offset', 'zeros', 'gap', 'clock')


@dataclass(frozen=True)
class Scenario:
    """One arm and what happens to it; distances are m or rad."""

    fault: str
    """One of FAULTS."""
    events: bool
    """Whether people hold, stop and start at any time."""
    arm: ArmModel
    sensor: SensorModel
    spec: ActionSpec
    limits: MotionLimits
    joints: dict[str, JointLimits] | None
    config: ControllerConfig
    groups: tuple[GroupReference, ...]
    speed: float
    error: float
    """Tracking limit."""
    pace: float
    """Of the observations' clock, in seconds per steady second."""

    @property
    def pending(self) -> float:
        """How far an arm can be behind at its highest speed: in 1.37 `DELAY_S`."""
        return 1.37 * DELAY_S * self.speed


def draw_scenario(rng: Random) -> Scenario:
    """Draw a scenario."""
    kind = rng.choice(('twist', 'velocity', 'position'))
    absolute = kind == 'position'
    period_s = 1 / rng.choice((10, 15, 20, 30, 50, 50, 100, 200))
    pace = rng.choice((1.0, 1.0, 1.0, 0.25))
    speed = rng.choice((0.05, 0.1, 0.25, 0.5, 1.0))
    error = 0.05 if kind == 'twist' else 0.1
    delay_s, lag_s, late_s = _delays(rng)
    arm = ArmModel(
        AXES,
        absolute,
        delay_s,
        lag_s,
        1.0 if absolute else rng.choice((1.0, 1.0, rng.uniform(1 - GAIN, 1 + GAIN))),
        rng.uniform(-0.004, 0.004) if absolute else 0.0,
        rng.choice((0.0, 0.1)) if absolute else rng.choice((inf, 0.2)),
    )
    sensor = SensorModel(
        rng.choice((0.005, 0.01, 0.02, 0.05, 0.1, 0.2, rng.uniform(0.2, 0.5))),
        rng.choice((0.0, 0.005, 0.02, rng.uniform(0.1, 0.8))),
        late_s,
        rng.choice((0.0, 0.0, 0.0003)),
    )
    acceleration, jerk = rng.choice((0.5, 1.5, 4.0)), rng.choice((None, 30.0, 80.0))
    deceleration, stop_jerk = acceleration * rng.uniform(1, 2), jerk and jerk * 2
    joints = None
    if kind == 'twist':
        spec = _spec(('linear.x', 'linear.y', 'linear.z'), 'm/s')
        limits = MotionLimits(
            LOW,
            HIGH,
            linear_speed_m_s=speed,
            linear_acceleration_m_s2=acceleration,
            linear_jerk_m_s3=jerk,
            stop_deceleration_m_s2=deceleration,
            stop_jerk_m_s3=stop_jerk,
            tracking_error_m=error,
            tracking_delay_s=DELAY_S,
        )
        parts = [slice(0, AXES)]
    else:
        wanted, unit = rng.choice((('velocity', 'rad/s'), ('position', 'rad')))
        spec = _spec(tuple(f'joint_{wanted}.{name}' for name in JOINTS), unit)
        limits = MotionLimits(workspace_low_m=None, workspace_high_m=None)
        tracking = TrackingLimits(error, DELAY_S, absolute)
        joints = {
            name: JointLimits(
                speed,
                acceleration,
                jerk,
                LOW[axis],
                HIGH[axis],
                stop_deceleration=deceleration,
                stop_jerk=stop_jerk,
                tracking=tracking,
            )
            for axis, name in enumerate(JOINTS)
        }
        parts = [slice(axis, axis + 1) for axis in range(AXES)]
    config = ControllerConfig(
        command_period_s=period_s,
        input_timeouts_s={'camera': 3.0, 'pose': 3.0 / pace},
        ramp_in_s=rng.choice((0.05, 0.5)),
        saturation_timeout_s=None,
        gap_s=max(0.1, 2 * period_s),
    )
    groups = tuple(GroupReference(part, speed, deceleration, stop_jerk or inf) for part in parts)
    return Scenario(
        rng.choice(FAULTS),
        rng.random() < 0.3,
        arm,
        sensor,
        spec,
        limits,
        joints,
        config,
        groups,
        speed,
        error,
        pace,
    )


def _spec(names: tuple[str, ...], unit: str) -> ActionSpec:
    return ActionSpec(names, (unit,) * len(names), 0.05, 8)


def _delays(rng: Random) -> tuple[float, float, float]:
    """Draw delay, lag and lateness of the stamps; together at most DELAY_S."""
    parts: list[float] = []
    for _ in range(3):
        parts.append(rng.choice((0.0, rng.uniform(0, DELAY_S - sum(parts)))))
    rng.shuffle(parts)
    return parts[0], parts[1], parts[2]
