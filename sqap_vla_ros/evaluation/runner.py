"""Runs closed-loop experiments on all cores or on a cluster: paired seeds, resumable."""

from collections.abc import Callable, Generator
from concurrent.futures import as_completed, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
import json
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.evaluation.ray_cluster import ray_results
from sqap_vla_ros.evaluation.result_files import RESULT_BYTES
from sqap_vla_ros.evaluation.rollout import Protocol
from sqap_vla_ros.input_files import parse_json, read_text
from sqap_vla_ros.lifeline import end_when_closed
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.simulation.arm import SimulatedArm

BASELINES = ('none', 'shuffled_image', 'blank_instruction', 'swapped_instruction')
FRAMES_SEED = 100_000_000
"""First seed of the expert's episodes whose images the shuffled-image baseline shows."""
EPISODES_A_JOB = 10


@dataclass(frozen=True)
class Experiment:
    """What to run. Episode i of a task has the seed `first_seed + i`, in every variant."""

    policy: str
    """Float policy directory."""
    variants: tuple[str, ...]
    """Recipe names or files; 'full': the policy without compression."""
    tasks: tuple[str, ...]
    episodes: int
    """Number of episodes of each task and variant."""
    first_seed: int = 1000
    baseline: str = 'none'
    """What the policy is deprived of: one of `BASELINES`."""
    protocol: Protocol = Protocol()


@dataclass(frozen=True)
class _Job:
    policy: str
    variant: str
    recipe: str
    """Recipe name, or the absolute path of its file."""
    task: str
    tasks: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]
    protocol: Protocol


def run_experiment(
    experiment: Experiment, workers: int, log: Path | None = None, ray: str | None = None
) -> list[dict]:
    """
    Run the episodes of an experiment that the log does not have yet.

    Args:
        experiment: what to run.
        workers: processes on this machine.
        log: file that gets a line for each finished episode; its episodes are not run again.
        ray: address of a Ray cluster that runs the jobs instead; see `ray_results`.

    Returns:
        One dict per episode, sorted by variant, task and seed.

    Raises:
        UserError: a policy or recipe cannot be loaded, or the cluster failed.
    """
    done = _read_log(log)
    jobs = _jobs(experiment, done)
    total = len(experiment.variants) * len(experiment.tasks) * experiment.episodes
    if jobs:
        results = (
            _local_results(jobs, workers) if ray is None else ray_results(_run_job, jobs, ray)
        )
        with (
            closing(results),
            tqdm(
                total=total,
                initial=total - sum(len(job.seeds) for job in jobs),
                desc='episodes',
                mininterval=1,
            ) as progress,
        ):
            for episodes in results:
                _append_log(log, episodes)
                done |= {_key(e): e for e in episodes}
                progress.update(len(episodes))
    wanted = {
        (variant, task, experiment.baseline, seed)
        for variant in experiment.variants
        for task in experiment.tasks
        for seed in _seeds(experiment)
    }
    return [done[key] for key in sorted(wanted & set(done))]


def _local_results(jobs: list[_Job], workers: int) -> Generator[list[dict], None, None]:
    """Yield the episodes of each job, in the order of finishing."""
    with ProcessPoolExecutor(workers, get_context('spawn'), _end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(_run_job, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        end_when_closed(parent.sentinel)


def _seeds(experiment: Experiment) -> range:
    return range(experiment.first_seed, experiment.first_seed + experiment.episodes)


_KEY = 'variant', 'task', 'baseline', 'seed'


def _key(episode: dict) -> tuple:
    return tuple(episode[name] for name in _KEY)


def _jobs(experiment: Experiment, done: dict[tuple, dict]) -> list[_Job]:
    jobs = []
    # A machine of a cluster has another working directory.
    policy = str(Path(experiment.policy).absolute())
    recipes = {
        name: str(Path(name).absolute()) if name != 'full' and Path(name).is_file() else name
        for name in experiment.variants
    }
    # Variants innermost: an interrupted run has about the same number of episodes of each.
    seeds = list(_seeds(experiment))
    for start in range(0, len(seeds), EPISODES_A_JOB):
        for task in experiment.tasks:
            for variant in experiment.variants:
                missing = tuple(
                    s
                    for s in seeds[start : start + EPISODES_A_JOB]
                    if (variant, task, experiment.baseline, s) not in done
                )
                if missing:
                    jobs.append(
                        _Job(
                            policy,
                            variant,
                            recipes[variant],
                            task,
                            experiment.tasks,
                            experiment.baseline,
                            missing,
                            experiment.protocol,
                        )
                    )
    return jobs


def _read_log(log: Path | None) -> dict[tuple, dict]:
    if log is None or not log.exists():
        return {}
    episodes = []
    for line in read_text(log, RESULT_BYTES, 'a log of episodes').splitlines():
        try:
            episode = parse_json(line)
        except ValueError:
            continue  # the line that was being written when an earlier run was killed
        if not isinstance(episode, dict) or not {*_KEY} <= set(episode):
            raise UserError(f'{log}: has a line that is no episode; name another file')
        episodes.append(episode)
    return {_key(e): e for e in episodes}


def _append_log(log: Path | None, episodes: list[dict]) -> None:
    if log is not None:
        with open(log, 'a', encoding='utf-8') as file:
            file.writelines(json.dumps(e) + '\n' for e in episodes)


_loaded: dict[tuple[str, str], Any] = {}
"""What a worker keeps between jobs: policies by variant, and the expert's images by task."""


def _run_job(job: _Job) -> list[dict]:
    import torch

    from sqap_vla_ros.evaluation.rollout import run_episode

    torch.set_num_threads(1)
    key = job.policy, job.recipe
    if key not in _loaded:
        _loaded[key] = load_variant(*key)
    policy, arm = _loaded[key], SimulatedArm(job.task)
    images = _images(job, arm) if job.baseline == 'shuffled_image' else None
    episodes = []
    for seed in job.seeds:
        episode = run_episode(
            arm, policy, _instruction(job, arm, seed), seed, job.protocol, images
        )
        episodes.append(
            {
                'variant': job.variant,
                'baseline': job.baseline,
                **asdict(episode),
                'weight_bytes': policy.describe().get('parameter_bytes'),
            }
        )
    arm.close()
    return episodes


def load_variant(policy: str, variant: str) -> Policy:
    """
    Load a variant of a policy.

    Args:
        policy: float policy directory.
        variant: recipe name or file; 'full': no compression.

    Raises:
        UserError: the policy or the recipe cannot be loaded.
    """
    from sqap_vla_ros.compression.recipe_files import find_recipe
    from sqap_vla_ros.models.loading import load_policy

    recipe = None if variant == 'full' else find_recipe(variant)
    return load_policy(policy, recipe=recipe)


def _instruction(job: _Job, arm: SimulatedArm, seed: int) -> str:
    from sqap_vla_ros.simulation.tasks import TASKS

    task = arm.task
    if job.baseline == 'blank_instruction':
        return ''
    if job.baseline == 'swapped_instruction':
        others = [TASKS[name] for name in job.tasks if name != task.name]
        others = [t for t in others if t.scene == task.scene] or others
        task = others[seed % len(others)]
    return task.instructions[seed % len(task.instructions)]


def _images(job: _Job, arm: SimulatedArm) -> Callable[[np.ndarray], np.ndarray]:
    from sqap_vla_ros.evaluation.rollout import expert_frames

    if ('frames', job.task) not in _loaded:
        _loaded['frames', job.task] = expert_frames(arm, range(FRAMES_SEED, FRAMES_SEED + 30))
    frames = _loaded['frames', job.task]
    rng = np.random.default_rng(job.seeds[0])
    return lambda _: frames[rng.integers(len(frames))]
