"""
A simulated Sawyer arm that follows end-effector twists like a real one.

It limits speed and acceleration itself and stops if no more commands come, so that data
generation, evaluation and the ROS node all move it along the same path. Base frame, metres,
seconds.
"""

from typing import Any

import mujoco
import numpy as np

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.simulation.scenes import CameraPose, SCENES, TIMESTEP_S
from sqap_vla_ros.simulation.tasks import Task, TASKS

MAX_SPEED_M_S = 0.30
MAX_ACCELERATION_M_S2 = 2.0
COMMAND_TIMEOUT_S = 0.2
WORKSPACE_LOW_M = np.array([-0.35, 0.38, 0.01])
WORKSPACE_HIGH_M = np.array([0.35, 0.95, 0.40])
# The weld pulls the hand towards a mocap body; the further ahead it is, the stronger the push.
MAX_LEAD_M = 0.05
# The fingers end below the body that the weld holds.
HAND_ABOVE_END_EFFECTOR_M = np.array([0.0, 0.0, 0.045])
JOINTS = tuple(f'right_j{i}' for i in range(7))


class SimulatedArm:
    """
    A scene with its arm. Not thread-safe; images are rendered in the thread of the first one.

    Args:
        task: Name of the first task; a reset may change it to another task of the same scene.
        image_size: Rows and columns of the images, pixels.
        camera: Pose of the camera.

    """

    def __init__(
        self, task: str, image_size: int = 192, camera: CameraPose = CameraPose()
    ) -> None:
        self.task: Task = TASKS[task]
        self._scene = SCENES[self.task.scene](camera)
        self.model = self._scene.model
        self.data = mujoco.MjData(self.model)
        self._mocap = self.model.body('mocap').mocapid[0]
        self._state = np.empty(mujoco.mj_stateSize(self.model, _FULL_STATE))
        self._renderer: Any = None
        self._camera_pose = camera
        self.image_size = image_size
        self.reset(seed=0)

    def reset(self, *, seed: int, task: str | None = None) -> None:
        """Start an episode; `seed` determines the positions of objects and end effector."""
        if task is not None:
            if TASKS[task].scene != self.task.scene:
                raise ValueError(
                    f'task {task!r} is in scene {TASKS[task].scene!r}, not {self.task.scene!r}'
                )
            self.task = TASKS[task]
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        start = rng.uniform(self._scene.start_low_m, self._scene.start_high_m)
        self._target_m = start + HAND_ABOVE_END_EFFECTOR_M
        self._velocity_m_s = np.zeros(3)
        self._command_m_s = np.zeros(3)
        self._command_age_s = np.inf
        self._gripper = float(rng.integers(2))
        placement = rng.integers(2**32)
        self._scene.place(self.data, np.random.default_rng(placement))
        self._advance(160)
        # Put back what the arm has touched on its way to the start.
        self._scene.place(self.data, np.random.default_rng(placement))
        self.data.qvel[:] = 0
        self._advance(20)
        self.time_s = 0.0
        self.succeeded = False
        self.failed = False

    def command(self, linear_m_s: np.ndarray, gripper: float | None = None) -> None:
        """
        Set the end-effector velocity [3], m/s in the base frame, and gripper, 0 open .. 1 closed.

        With None the gripper keeps its last command. The velocity is valid for COMMAND_TIMEOUT_S.
        A velocity above MAX_SPEED_M_S is scaled down; its direction is kept.
        """
        linear = np.asarray(linear_m_s, np.float64)
        if linear.shape != (3,) or not np.isfinite(linear).all():
            raise ValueError('command must be three finite velocities')
        if gripper is not None:
            self.command_gripper(gripper)
        speed = float(np.linalg.norm(linear))
        self._command_m_s = linear * min(1.0, MAX_SPEED_M_S / max(speed, 1e-9))
        self._command_age_s = 0.0

    def command_gripper(self, gripper: float) -> None:
        """Set only the gripper, 0 open .. 1 closed; this does not renew the last velocity."""
        if not np.isfinite(gripper):
            raise ValueError('gripper must be finite')
        self._gripper = float(np.clip(gripper, 0.0, 1.0))

    def step(self, duration_s: float) -> None:
        """Advance the physics by `duration_s` (a multiple of 2.5 ms is met exactly)."""
        for _ in range(round(duration_s / TIMESTEP_S)):
            stale = self._command_age_s > COMMAND_TIMEOUT_S
            wanted = np.zeros(3) if stale else self._command_m_s
            change = wanted - self._velocity_m_s
            size = np.linalg.norm(change)
            if size > MAX_ACCELERATION_M_S2 * TIMESTEP_S:
                change *= MAX_ACCELERATION_M_S2 * TIMESTEP_S / size
            self._velocity_m_s = self._velocity_m_s + change
            hand = self.data.body('hand').xpos
            target = self._target_m + self._velocity_m_s * TIMESTEP_S
            lead = target - hand
            distance = np.linalg.norm(lead)
            if distance > MAX_LEAD_M:
                target = hand + lead * (MAX_LEAD_M / distance)
            self._target_m = np.clip(
                target,
                WORKSPACE_LOW_M + HAND_ABOVE_END_EFFECTOR_M,
                WORKSPACE_HIGH_M + HAND_ABOVE_END_EFFECTOR_M,
            )
            self._advance(1)
            self._command_age_s += TIMESTEP_S
            self.time_s += TIMESTEP_S
        self.failed = self.failed or self.task.failed(self)
        self.succeeded = self.succeeded or (not self.failed and self.task.succeeded(self))

    def _advance(self, steps: int) -> None:
        self.data.mocap_pos[self._mocap] = self._target_m
        self.data.mocap_quat[self._mocap] = [1, 0, 1, 0]
        effort = 2 * self._gripper - 1
        self.data.ctrl[:] = [effort, -effort]
        mujoco.mj_step(self.model, self.data, steps)

    @property
    def end_effector_m(self) -> np.ndarray:
        """Position of the closed fingertips, float64 [3]."""
        return self.data.body('hand').xpos - HAND_ABOVE_END_EFFECTOR_M

    @property
    def end_effector_quaternion(self) -> np.ndarray:
        """Orientation of the hand, float64 [4], x y z w."""
        return np.roll(self.data.body('hand').xquat, -1)

    @property
    def gripper(self) -> float:
        """Measured position of the gripper, 0 open .. 1 closed."""
        low, high = self.model.joint('r_close').range
        position = self.data.joint('r_close').qpos[0]
        return float(np.clip((position - low) / (high - low), 0.0, 1.0))

    @property
    def joint_positions(self) -> np.ndarray:
        """Positions of JOINTS, float64 [7], radians."""
        return np.array([self.data.joint(name).qpos[0] for name in JOINTS])

    @property
    def joint_velocities(self) -> np.ndarray:
        """Velocities of JOINTS, float64 [7], radians a second."""
        return np.array([self.data.joint(name).qvel[0] for name in JOINTS])

    @property
    def state(self) -> np.ndarray:
        """State of the shipped policy: end effector x, y, z and gripper, float32 [4]."""
        return np.array([*self.end_effector_m, self.gripper], np.float32)

    @property
    def camera(self) -> PinholeCamera:
        """Camera model of `image`."""
        focal = self.image_size / 2 / np.tan(np.radians(self._camera_pose.fovy_deg) / 2)
        centre = self.image_size / 2
        intrinsics = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
        return PinholeCamera(
            intrinsics, self._camera_pose.optical_from_base(), self.image_size, self.image_size
        )

    def image(self) -> np.ndarray:
        """Render uint8 [image_size, image_size, 3], RGB."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.model, self.image_size, self.image_size)
            flags = self._renderer.scene.flags
            for flag in (
                mujoco.mjtRndFlag.mjRND_SHADOW,
                mujoco.mjtRndFlag.mjRND_REFLECTION,
                mujoco.mjtRndFlag.mjRND_SKYBOX,
            ):
                flags[flag] = 0
            self._options = mujoco.MjvOption()
            self._options.sitegroup[:] = 0
        self._renderer.update_scene(self.data, 'policy', self._options)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def snapshot(self) -> tuple:
        """Return the state that `restore` needs to continue from here."""
        mujoco.mj_getState(self.model, self.data, self._state, _FULL_STATE)
        return (
            self._state.copy(),
            self._target_m.copy(),
            self._velocity_m_s.copy(),
            self._command_m_s.copy(),
            self._command_age_s,
            self._gripper,
            self.time_s,
            self.succeeded,
            self.failed,
        )

    def restore(self, snapshot: tuple) -> None:
        """Go back to a snapshot of the same episode."""
        (
            state,
            self._target_m,
            self._velocity_m_s,
            self._command_m_s,
            self._command_age_s,
            self._gripper,
            self.time_s,
            self.succeeded,
            self.failed,
        ) = snapshot
        mujoco.mj_setState(self.model, self.data, state, _FULL_STATE)
        mujoco.mj_forward(self.model, self.data)


_FULL_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
