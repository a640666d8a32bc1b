"""
The scenes: Meta-World's Sawyer and objects, and coloured push buttons of our own.

A scene is a MuJoCo model plus the placement of its objects at a reset. Reset ranges are so wide
that a policy fails if it ignores the image. Lengths are in metres; the world frame is the base
frame.
"""

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

TIMESTEP_S = 0.0025
COLOURS = {
    'red': (0.85, 0.08, 0.08, 1),
    'green': (0.05, 0.65, 0.15, 1),
    'blue': (0.10, 0.20, 0.90, 1),
    'yellow': (0.90, 0.80, 0.05, 1),
}
DISTRACTORS = {
    'white': (0.9, 0.9, 0.9, 1),
    'purple': (0.50, 0.10, 0.60, 1),
    'orange': (0.95, 0.45, 0.05, 1),
    'grey': (0.35, 0.35, 0.37, 1),
}
PANEL_TRAVEL_M = 0.02
PANEL_TOP_M = 0.055
"""Height of a released panel button's cap above the table."""


@dataclass(frozen=True)
class CameraPose:
    """A fixed camera that looks at a point, roll-free."""

    look_at_m: tuple[float, float, float] = (0.02, 0.70, 0.15)
    distance_m: float = 1.0
    azimuth_deg: float = 145.0
    elevation_deg: float = -38.0
    fovy_deg: float = 45.0

    def optical_from_base(self) -> np.ndarray:
        """float64 [4, 4]: base frame to optical frame (REP 103: x right, y down, z forward)."""
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        forward = np.array(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ]
        )
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        position = np.array(self.look_at_m) - self.distance_m * forward
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, down, forward])
        matrix[:3, 3] = -matrix[:3, :3] @ position
        return matrix


class Scene:
    """A MuJoCo model and the placement of its objects. Subclasses set the file and the ranges."""

    asset = ''
    start_low_m, start_high_m = np.array([-0.2, 0.42, 0.12]), np.array([0.2, 0.52, 0.30])
    """Range of the end effector at the start of an episode."""

    def __init__(self, camera: CameraPose) -> None:
        spec = mujoco.MjSpec.from_file(str(_assets() / self.asset))
        self.extend(spec)
        # Compiled welds hold the offset of the home pose; Meta-World welds the hand to the mocap
        # body itself: no offset, torque scale 5.
        for weld in spec.equalities:
            if weld.type == mujoco.mjtEq.mjEQ_WELD:
                weld.data[:11] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]
        self._add_camera(spec, camera)
        self.model = spec.compile()
        # Multisampling takes 90 % of the time of a software render.
        self.model.vis.quality.offsamples = 0

    def extend(self, spec: mujoco.MjSpec) -> None:
        """Change the model before it is compiled."""

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place the objects for an episode, and put back what earlier episodes have moved."""
        raise NotImplementedError

    @staticmethod
    def _add_camera(spec: mujoco.MjSpec, pose: CameraPose) -> None:
        optical = pose.optical_from_base()
        rotation = optical[:3, :3].T
        x, y = rotation[:, 0], -rotation[:, 1]
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, np.stack([x, y, np.cross(x, y)], axis=1).ravel())
        spec.worldbody.add_camera(
            name='policy', pos=-rotation @ optical[:3, 3], quat=quaternion, fovy=pose.fovy_deg
        )


class ButtonPanel(Scene):
    """Three push buttons, red, green and blue, anywhere on the table."""

    asset = 'sawyer_button_press_topdown.xml'
    low, high = np.array([-0.22, 0.60]), np.array([0.22, 0.84])
    clearance_m = 0.13
    start_low_m, start_high_m = np.array([-0.2, 0.45, 0.12]), np.array([0.2, 0.65, 0.25])
    colours: tuple[str, ...] = 'red', 'green', 'blue'
    base_m, cap_m = 0.045, 0.034
    """Half the side of a button's base, radius of its cap."""

    def extend(self, spec: mujoco.MjSpec) -> None:
        """Replace the box by the buttons."""
        spec.detach_body(spec.body('box'))
        for colour in self.colours:
            base = spec.worldbody.add_body(name=f'{colour}_button')
            base.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[self.base_m, self.base_m, 0.015],
                pos=[0, 0, 0.015],
                rgba=[0.25, 0.25, 0.27, 1],
            )
            # Meta-World's compiler settings take inertia from its collision geoms alone.
            cap = base.add_body(
                name=f'{colour}_cap',
                mass=0.05,
                inertia=[2e-5, 2e-5, 3e-5],
                ipos=[0, 0, PANEL_TOP_M - 0.0125],
                explicitinertial=True,
            )
            cap.add_joint(
                name=f'{colour}_joint',
                type=mujoco.mjtJoint.mjJNT_SLIDE,
                axis=[0, 0, 1],
                limited=True,
                range=[-PANEL_TRAVEL_M, 0],
                stiffness=60,
                springref=0.005,
                damping=2,
            )
            cap.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CYLINDER,
                size=[self.cap_m, 0.0125, 0],
                pos=[0, 0, PANEL_TOP_M - 0.0125],
                rgba=COLOURS[colour],
            )
            # The cap slides inside the box that it stands on.
            spec.add_exclude(bodyname1=f'{colour}_button', bodyname2=f'{colour}_cap')

    @property
    def bodies(self) -> list[str]:
        """The bodies that are placed at random on the table."""
        return [f'{colour}_button' for colour in self.colours]

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place the objects; see `Scene.place`."""
        for body, spot in zip(self.bodies, self.spots(rng, len(self.bodies))):
            data.model.body(body).pos[:2] = spot
        for colour in self.colours:
            data.joint(f'{colour}_joint').qpos[0] = 0.0

    def spots(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw positions x, y at least `clearance_m` apart: float64 [count, 2], metres."""
        pairs = np.triu_indices(count, 1)
        while True:
            spots = rng.uniform(self.low, self.high, size=(count, 2))
            gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
            if gaps[pairs].min() > self.clearance_m:
                return spots


class SmallButtons(ButtonPanel):
    """Four small push buttons among four small blocks of other colours."""

    clearance_m = 0.085
    colours = 'red', 'green', 'blue', 'yellow'
    base_m, cap_m = 0.026, 0.020

    @property
    def bodies(self) -> list[str]:
        """The buttons and the blocks."""
        return super().bodies + [f'{colour}_block' for colour in DISTRACTORS]

    def extend(self, spec: mujoco.MjSpec) -> None:
        """Add the buttons and the blocks."""
        super().extend(spec)
        for colour, rgba in DISTRACTORS.items():
            block = spec.worldbody.add_body(name=f'{colour}_block')
            # No contacts: a block is seen but does not obstruct the hand.
            block.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[0.018, 0.018, 0.018],
                pos=[0, 0, 0.018],
                rgba=rgba,
                contype=0,
                conaffinity=0,
            )


class YellowBox(Scene):
    """A yellow box with one large button on top."""

    asset = 'sawyer_button_press_topdown.xml'
    low, high = np.array([-0.26, 0.66]), np.array([0.24, 0.88])

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place the objects; see `Scene.place`."""
        data.model.body('box').pos[:] = [*rng.uniform(self.low, self.high), 0.115]
        data.joint('btnbox_joint').qpos[0] = 0.0


class Drawer(Scene):
    """A drawer, closed."""

    asset = 'sawyer_drawer.xml'
    low, high = np.array([-0.28, 0.72]), np.array([0.26, 0.89])

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place the objects; see `Scene.place`."""
        data.model.body('drawer').pos[:] = [*rng.uniform(self.low, self.high), 0.0]
        data.joint('goal_slidey').qpos[0] = 0.0


class CoffeeMachine(Scene):
    """A coffee machine with a button at its front and a mug below the spout."""

    asset = 'sawyer_coffee.xml'
    # Sunk into the table by a random depth: if all buttons had one height, a policy that does not
    # look could hit them too often.
    low, high = np.array([-0.22, 0.78, -0.12]), np.array([0.22, 0.90, 0.0])

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place the objects; see `Scene.place`."""
        spot = rng.uniform(self.low, self.high)
        data.model.body('coffee_machine').pos[:] = spot
        data.joint('goal_slidey').qpos[0] = 0.0
        mug = data.model.body('obj').jntadr[0]
        address = data.model.jnt_qposadr[mug]
        data.qpos[address : address + 7] = [spot[0], spot[1] - 0.22, 0.0, 1, 0, 0, 0]


SCENES = {
    'button_panel': ButtonPanel,
    'small_buttons': SmallButtons,
    'yellow_box': YellowBox,
    'drawer': Drawer,
    'coffee_machine': CoffeeMachine,
}


def _assets() -> Path:
    import metaworld

    return Path(metaworld.__file__).parent / 'assets' / 'sawyer_xyz'
