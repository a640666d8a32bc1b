"""
Demonstrations: disturbed episodes of the expert, with its undisturbed chunk for every frame.

Each episode is generated from a seed, so a dataset is reproduced rather than stored.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import replaced_file
from sqap_vla_ros.input_files import names_of, read_npz
from sqap_vla_ros.models.preprocessing.images import resize_image
from sqap_vla_ros.simulation.arm import MAX_SPEED_M_S, SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action


@dataclass
class Demonstrations:
    """Frames of many episodes, as arrays of equal length."""

    image: np.ndarray
    """uint8 [F, 3, S, S], as `resize_image` gives it."""
    state: np.ndarray
    """float32 [F, 4]: end effector x, y, z in metres (base frame), gripper."""
    task: np.ndarray
    """int64 [F], index into the tasks of the dataset."""
    action: np.ndarray
    """float32 [F, T, 4]: linear velocity in m/s (base frame), gripper."""
    target: np.ndarray
    """float32 [F, 3]: where the expert is going, metres (base frame); used by training only."""

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically."""
        with replaced_file(path) as partial, open(partial, 'wb') as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> 'Demonstrations':
        """
        Read a file that `save` wrote.

        Raises:
            UserError: it is damaged, or holds something else.
        """
        arrays = read_npz(path, 'demonstrations', 2**36)
        names = {field.name for field in fields(cls)}
        if set(arrays) != names or len({len(array) for array in arrays.values()}) != 1:
            raise UserError(
                f'{path}: has {names_of(arrays)}, expected as many of each: {", ".join(names)}'
            )
        return cls(**arrays)

    @classmethod
    def concatenate(cls, parts: list['Demonstrations']) -> 'Demonstrations':
        """Concatenate the frames of all parts, in order."""
        return cls(
            **{
                key: np.concatenate([getattr(part, key) for part in parts])
                for key in vars(parts[0])
            }
        )


def expert_chunk(arm: SimulatedArm, horizon: int, step_s: float) -> np.ndarray:
    """
    Compute the undisturbed expert's next actions.

    Rolls the simulation forward and restores it. Each row is held for one policy step, as at run
    time.

    Args:
        arm: simulated arm, in the state to start from.
        horizon: number of rows.
        step_s: duration of a row, seconds.

    Returns:
        float32 [horizon, 4]: linear velocity, m/s (base frame), and gripper.
    """
    here = arm.snapshot()
    rows = []
    for _ in range(horizon):
        rows.append(expert_action(arm))
        arm.command(rows[-1][:3], rows[-1][3])
        arm.step(step_s)
    arm.restore(here)
    return np.array(rows, np.float32)


class Recorder:
    """Collects the frames of one simulated arm at a time, which performs one of `tasks`."""

    def __init__(self, tasks: Sequence[str], horizon: int, step_s: float, image_size: int) -> None:
        self.tasks = tuple(tasks)
        self.horizon, self.step_s, self.image_size = horizon, step_s, image_size
        self._frames: dict[str, list] = {
            name: [] for name in ('image', 'state', 'task', 'action', 'target')
        }
        self.last_image = np.zeros((0, 0, 3), np.uint8)
        """The camera image of the last `record`, uint8 [H, W, 3]; empty before the first."""

    def record(self, arm: SimulatedArm) -> np.ndarray:
        """Store a frame, and return the expert's chunk for it: float32 [horizon, 4]."""
        chunk = expert_chunk(arm, self.horizon, self.step_s)
        self.last_image = arm.image()
        image = resize_image(torch.from_numpy(self.last_image), self.image_size)
        frame = {
            'image': image.numpy(),
            'state': arm.state,
            'action': chunk,
            'task': self.tasks.index(arm.task.name),
            'target': arm.task.target(arm),
        }
        for name, values in self._frames.items():
            values.append(frame[name])
        return chunk

    def finish(self) -> Demonstrations:
        """Return everything that was recorded."""
        arrays = {name: np.array(values) for name, values in self._frames.items()}
        return Demonstrations(**{**arrays, 'target': arrays['target'].astype(np.float32)})


def disturbed_expert_episode(
    arm: SimulatedArm, recorder: Recorder, seed: int, record_every: int = 3, limit_s: float = 8.0
) -> None:
    """Record an episode of the expert with noise and pushes, so that the data has recoveries."""
    rng = np.random.default_rng(seed)
    arm.reset(seed=seed)
    noise = rng.choice([0.0, 0.3, 0.6]) * MAX_SPEED_M_S
    push_steps, push = (rng.integers(3, 12) if rng.random() < 0.5 else 0), _push(rng)
    step, after = int(rng.integers(record_every)), 0
    while arm.time_s < limit_s and not arm.failed and after < 4:
        if step % record_every == 0:
            recorder.record(arm)
        action = expert_action(arm)
        velocity = action[:3] + noise * rng.normal(size=3)
        if push_steps > 0:
            velocity, push_steps = push, push_steps - 1
        elif rng.random() < 0.03:
            push_steps, push = rng.integers(3, 10), _push(rng)
        arm.command(velocity, action[3])
        arm.step(recorder.step_s)
        step += 1
        after += arm.succeeded


def policy_episode(
    arm: SimulatedArm,
    recorder: Recorder,
    seed: int,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    execute: Iterator[int],
    expert_share: float,
    limit_s: float = 8.0,
) -> bool:
    """
    Record an episode of the learned policy, labelled by the expert (DAgger, arXiv 1011.0686).

    Args:
        arm: simulated arm; it is reset to `seed`.
        recorder: gets the frames.
        seed: seed of the scene.
        act: maps image and state to a chunk [T, 4].
        execute: how many rows of each chunk are executed.
        expert_share: probability that the expert's chunk is executed instead.
        limit_s: robot time after which the episode ends, seconds.

    Returns:
        Whether the episode succeeded.
    """
    rng = np.random.default_rng(seed)
    arm.reset(seed=seed)
    while arm.time_s < limit_s and not arm.failed and not arm.succeeded:
        label = recorder.record(arm)
        chunk = label if rng.random() < expert_share else act(recorder.last_image, arm.state)
        for row in chunk[: next(execute)]:
            arm.command(row[:3], row[3])
            arm.step(recorder.step_s)
            if arm.succeeded or arm.failed:
                break
    return arm.succeeded


def _push(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 3) * MAX_SPEED_M_S


def expert_shard(shard: int, episodes: int, recorder: Recorder) -> Demonstrations:
    """Record `episodes` disturbed episodes of every task; the seeds depend on the shard."""
    for index, name in enumerate(recorder.tasks):
        arm = SimulatedArm(name)
        for episode in range(episodes):
            disturbed_expert_episode(arm, recorder, episode_seed(shard, index, episode))
        arm.close()
    return recorder.finish()


def episode_seed(shard: int, task: int, episode: int) -> int:
    """Return the seed of a training episode: 10 million and up; evaluations use smaller seeds."""
    return 10_000_000 + shard * 100_000 + task * 10_000 + episode
