"""Closed-loop episodes on all cores: same seeds for all variants, resumable, kept one by one."""

from concurrent.futures import as_completed, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
import json
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sqap_vla_ros.evaluation.ray_cluster import ray_results
from sqap_vla_ros.evaluation.rollout import Protocol

BASELINES = ('none', 'shuffled_image', 'blank_instruction', 'swapped_instruction')
FRAMES_SEED = 100_000_000
"""Of the expert's episodes whose images the shuffled-image baseline is shown."""
EPISODES_A_JOB = 10


@dataclass(frozen=True)
class Experiment:
    """What is run. Episode i of a task has the seed `first_seed + i`, in every variant."""

    policy: str
    """Float policy directory."""
    variants: tuple[str, ...]
    """Recipe names or files; 'full' leaves the policy as it is."""
    tasks: tuple[str, ...]
    episodes: int
    """Of each task and variant."""
    first_seed: int = 1000
    baseline: str = 'none'
    """What is taken away from the policy: see BASELINES."""
    protocol: Protocol = Protocol()


@dataclass(frozen=True)
class _Job:
    policy: str
    variant: str
    recipe: str
    """The variant, or its file."""
    task: str
    tasks: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]
    protocol: Protocol


def run_experiment(
    experiment: Experiment, workers: int, log: Path | None = None, ray: str | None = None
) -> list[dict]:
    """
    Run what is missing of an experiment; returns one dict an episode, sorted.

    workers: processes on this machine; ray: address of a Ray cluster that runs the jobs instead.
    log: file that gets a line for each finished episode; what it holds already is not run again.
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


def _local_results(jobs, workers):
    """Yield what each job returns, as they finish."""
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        try:
            for future in as_completed([pool.submit(_run_job, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _seeds(experiment):
    return range(experiment.first_seed, experiment.first_seed + experiment.episodes)


def _key(episode):
    return episode['variant'], episode['task'], episode['baseline'], episode['seed']


def _jobs(experiment, done):
    jobs = []
    # A machine of a cluster has another working directory.
    policy = str(Path(experiment.policy).absolute())
    recipes = {
        name: str(Path(name).absolute()) if name != 'full' and Path(name).is_file() else name
        for name in experiment.variants
    }
    # Variants innermost: at any moment about as much of each has been run.
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


def _read_log(log):
    if log is None or not log.exists():
        return {}
    episodes = []
    for line in log.read_text('utf-8').splitlines():
        try:
            episodes.append(json.loads(line))
        except ValueError:
            continue  # the line that was being written when an earlier run was killed
    return {_key(e): e for e in episodes}


def _append_log(log, episodes) -> None:
    if log is not None:
        with open(log, 'a', encoding='utf-8') as file:
            file.writelines(json.dumps(e) + '\n' for e in episodes)


_loaded = {}
"""What a worker keeps between jobs: policies by variant, and one arm."""


def _run_job(job: _Job) -> list[dict]:
    import torch

    from sqap_vla_ros.evaluation.rollout import run_episode
    from sqap_vla_ros.simulation.arm import SimulatedArm

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


def load_variant(policy: str, variant: str):
    """Load a policy as a variant. Raises UserError."""
    from sqap_vla_ros.compression.recipe import find_recipe
    from sqap_vla_ros.models.loading import load_policy

    recipe = None if variant == 'full' else find_recipe(variant)
    return load_policy(policy, recipe=recipe)


def _instruction(job, arm, seed):
    from sqap_vla_ros.simulation.tasks import TASKS

    task = arm.task
    if job.baseline == 'blank_instruction':
        return ''
    if job.baseline == 'swapped_instruction':
        others = [TASKS[name] for name in job.tasks if name != task.name]
        others = [t for t in others if t.scene == task.scene] or others
        task = others[seed % len(others)]
    return task.instructions[seed % len(task.instructions)]


def _images(job, arm):
    from sqap_vla_ros.evaluation.rollout import expert_frames

    if ('frames', job.task) not in _loaded:
        _loaded['frames', job.task] = expert_frames(arm, range(FRAMES_SEED, FRAMES_SEED + 30))
    frames = _loaded['frames', job.task]
    rng = np.random.default_rng(job.seeds[0])
    return lambda _: frames[rng.integers(len(frames))]
