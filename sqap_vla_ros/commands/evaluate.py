"""`sqap_vla evaluate`: success of policies in the simulation, on common seeds."""
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
import json
from multiprocessing import get_context
from pathlib import Path

BASELINES = ('none', 'shuffled_image', 'blank_instruction')


def add_arguments(parser):
    """Declare the arguments."""
    parser.add_argument('policy', type=Path, nargs='+', help='policy directories')
    parser.add_argument('--recipe', type=Path, action='append', default=[],
                        help='compress the first policy with this recipe too; repeatable')
    parser.add_argument('--episodes', type=int, default=50, help='of each task (default 50)')
    parser.add_argument('--tasks', nargs='+', help='(default: all)')
    parser.add_argument('--first-seed', type=int, default=1000, help='(default 1000)')
    parser.add_argument('--baseline', choices=BASELINES, default='none',
                        help='take away the image or the instruction')
    parser.add_argument('--workers', type=int, default=2, help='processes (default 2)')
    parser.add_argument('--json', type=Path, help='write every episode to this file')


def run(arguments) -> int:
    """Print a table, a row a policy and a column a task."""
    from tqdm import tqdm

    from sqap_vla_ros.evaluation.statistics import percent
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.simulation.tasks import TASKS

    tasks = arguments.tasks or list(TASKS)
    variants = [(str(path), None) for path in arguments.policy]
    variants += [(str(arguments.policy[0]), str(recipe)) for recipe in arguments.recipe]
    for path, recipe in variants:
        load_policy(Path(path), recipe=recipe)  # a mistake is better told once than by each worker
    jobs = [(variant, task, arguments.baseline, arguments.first_seed, arguments.episodes)
            for variant in variants for task in tasks]
    with ProcessPoolExecutor(arguments.workers, get_context('spawn')) as pool:
        done = list(tqdm(pool.map(_run_job, jobs), total=len(jobs), desc='tasks'))
    episodes = {(job[0], job[1]): result for job, result in zip(jobs, done)}
    names = {variant: Path(variant[1] or variant[0]).stem for variant in variants}
    width = max(map(len, names.values()))
    print(f'{"":{width}}  ' + '  '.join(f'{task:>16}' for task in [*tasks, 'all']))
    for variant in variants:
        cells = [[e.succeeded for e in episodes[variant, task]] for task in tasks]
        cells.append([s for cell in cells for s in cell])
        print(f'{names[variant]:{width}}  '
              + '  '.join(f'{percent(sum(cell), len(cell)):>16}' for cell in cells))
    if arguments.json:
        report = [{'policy': path, 'recipe': recipe, 'baseline': arguments.baseline,
                   'episodes': [asdict(e) for task in tasks for e in episodes[(path, recipe), task]]}
                  for path, recipe in variants]
        arguments.json.write_text(json.dumps(report, indent=1) + '\n', 'utf-8')
    return 0


def _run_job(job):
    (path, recipe), task, baseline, first_seed, count = job
    import numpy as np
    import torch

    from sqap_vla_ros.evaluation.rollout import expert_frames, run_episode
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.simulation.arm import SimulatedArm

    torch.set_num_threads(1)
    policy, arm = load_policy(Path(path), recipe=recipe), SimulatedArm(task)
    images = None
    if baseline == 'shuffled_image':
        frames = expert_frames(arm, range(100, 130))
        rng = np.random.default_rng(first_seed)

        def images(_):
            return frames[rng.integers(len(frames))]
    episodes = []
    for seed in range(first_seed, first_seed + count):
        said = arm.task.instructions[seed % len(arm.task.instructions)]
        episodes.append(run_episode(arm, policy, '' if baseline == 'blank_instruction' else said,
                                    seed, images=images))
    arm.close()
    return episodes
