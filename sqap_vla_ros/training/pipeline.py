"""The training pipeline: demonstrations, imitation, DAgger, averaged weights."""

from dataclasses import asdict, dataclass
from datetime import timedelta
import itertools
import json
import os
from pathlib import Path
import time

import numpy as np
from safetensors.torch import save_file
import torch
from torch import distributed
from tqdm import tqdm

from sqap_vla_ros.columns import columns_from_units
from sqap_vla_ros.input_files import JSON_BYTES, read_text
from sqap_vla_ros.models.config import save_config
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.families.cogact.policy import CogActPolicy
from sqap_vla_ros.models.layers.vision_config import VisionConfig
from sqap_vla_ros.models.preprocessing.statistics import load_statistics, STATISTICS_FILE
from sqap_vla_ros.models.preprocessing.words import WordTokenizer
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import DATASETS, TASKS
from sqap_vla_ros.training.dataset import (
    Demonstrations,
    episode_seed,
    expert_shard,
    policy_episode,
    Recorder,
)
from sqap_vla_ros.training.trainer import Batches, Learner, Schedule, Trainer

IMAGE_SIZES = {'sqap_vla_sim': 96, 'sqap_vla_sim_small_objects': 128}
"""Pixels. A patch is 8 pixels wide: 144 and 256 visual tokens."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a training run; the defaults made the policy shipped with the package."""

    dataset: str = 'sqap_vla_sim'
    """One of `DATASETS`."""
    shards: int = 12
    episodes: int = 20
    """Disturbed expert episodes of each task in a shard."""
    steps: int = 3000
    batch: int = 32
    """Samples per step and worker."""
    dagger_at: tuple[float, ...] = (0.5,)
    """Fractions of the steps after which the policy's own episodes are labelled and added."""
    dagger_episodes: int = 15
    """Episodes per task, worker and round."""
    workers: int = 2
    """Processes. Their number changes the result; the speed of the machine does not."""
    seed: int = 0
    device: str = 'cpu'


def small_config(dataset: str, words: int) -> CogActConfig:
    """Return the configuration of a policy of 1.8 million parameters for a dataset."""
    size = IMAGE_SIZES[dataset]
    return CogActConfig(
        vision=(
            VisionConfig(
                model={
                    'hidden_size': 128,
                    'intermediate_size': 256,
                    'num_hidden_layers': 3,
                    'num_attention_heads': 4,
                    'image_size': size,
                    'patch_size': 8,
                },
                attention_window=1,
            ),
        ),
        llama={
            'hidden_size': 128,
            'intermediate_size': 256,
            'num_hidden_layers': 4,
            'num_attention_heads': 4,
            'num_key_value_heads': 4,
            'vocab_size': words,
            'max_position_embeddings': 256 if size == 96 else 512,
        },
        action_head=ActionHeadConfig(hidden_size=128, depth=3, heads=4, guidance=1.0),
        image_size=size,
        text_length=10,
        state=columns_from_units(
            ('end_effector.x', 'end_effector.y', 'end_effector.z', 'gripper'), ('m', 'm', 'm', '1')
        ),
        action=columns_from_units(
            ('linear.x', 'linear.y', 'linear.z', 'gripper'), ('m/s', 'm/s', 'm/s', '1')
        ),
        binary_actions=('gripper',),
        step_s=0.05,
        horizon=16,
        dataset=dataset,
    )


def small_tokenizer(dataset: str) -> WordTokenizer:
    """Return a tokenizer with every word of the instructions of a dataset."""
    words = {
        word
        for task in DATASETS[dataset]
        for text in TASKS[task].instructions
        for word in text.split()
    }
    return WordTokenizer(sorted(words), 10)


def train(plan: Plan, directory: Path) -> None:
    """Run or resume a plan. The policy is in `directory/policy` afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = directory / 'plan.json'
    text = json.dumps(asdict(plan), indent=2) + '\n'
    if stored.exists():
        before = read_text(stored, JSON_BYTES, 'a plan')
        if before != text:
            (directory / 'plan.previous.json').write_text(before, 'utf-8')
    stored.write_text(text, 'utf-8')
    if plan.workers == 1:
        _work(0, plan, directory)
    else:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        rendezvous = directory / 'rendezvous'
        rendezvous.unlink(missing_ok=True)
        torch.multiprocessing.spawn(_worker, (plan, directory, rendezvous), plan.workers)


def _worker(rank: int, plan: Plan, directory: Path, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        f'file://{rendezvous.resolve()}',
        rank=rank,
        world_size=plan.workers,
        timeout=timedelta(hours=2),
    )
    _work(rank, plan, directory)
    distributed.destroy_process_group()


def _work(rank: int, plan: Plan, directory: Path) -> None:
    """Do the share of one process; the processes synchronise after each stage."""
    data = directory / 'data'
    data.mkdir(exist_ok=True)
    tasks = DATASETS[plan.dataset]
    tokenizer = small_tokenizer(plan.dataset)
    config = small_config(plan.dataset, len(tokenizer))

    def recorder() -> Recorder:
        return Recorder(tasks, config.horizon, config.step_s, config.image_size)

    shards = [data / f'shard_{i:03d}.npz' for i in range(plan.shards)]
    for i in tqdm(range(rank, plan.shards, plan.workers), desc='demonstrations', disable=rank > 0):
        if not shards[i].exists():
            expert_shard(i, plan.episodes, recorder()).save(shards[i])
    _synchronise()
    policy = directory / 'policy'
    if rank == 0:
        policy.mkdir(exist_ok=True)
        save_config(config, policy)
        tokenizer.save(policy)
        _save_statistics(
            Demonstrations.concatenate([Demonstrations.load(s) for s in shards]),
            policy,
            plan.dataset,
        )
    _synchronise()
    statistics = load_statistics(policy, plan.dataset, len(config.state))
    torch.manual_seed(plan.seed)
    schedule = Schedule(plan.steps, plan.batch)
    trainer = Trainer(Learner(CogActModel(config)), schedule, directory, plan.device, plan.seed)
    trainer.resume()
    for number, share in enumerate((*plan.dagger_at, 1.0)):
        own = data / f'dagger_{number}_{rank:02d}.npz'
        parts = [Demonstrations.load(path) for path in shards]
        batches = Batches(Demonstrations.concatenate(parts), tasks, tokenizer, statistics)
        trainer.run(batches, until=round(plan.steps * share))
        if share < 1:
            if not own.exists():
                learned = CogActPolicy(
                    trainer.averaged_model().to(plan.device), tokenizer, statistics
                )
                frames = _dagger(learned, plan, number, rank, recorder())
                frames.save(own)
            shards += [data / f'dagger_{number}_{r:02d}.npz' for r in range(plan.workers)]
            _synchronise()
    if rank == 0:
        save_file(
            {k: v.contiguous() for k, v in trainer.average.items()}, policy / 'model.safetensors'
        )


def _dagger(
    learned: CogActPolicy, plan: Plan, number: int, rank: int, recorder: Recorder
) -> Demonstrations:
    succeeded = {}
    for index, name in enumerate(tqdm(recorder.tasks, desc=f'dagger {number}', disable=rank > 0)):
        arm = SimulatedArm(name)
        seeds = [
            episode_seed(100 + number * plan.workers + rank, index, episode)
            for episode in range(plan.dagger_episodes)
        ]
        succeeded[name] = sum(_dagger_episode(arm, learned, seed, recorder) for seed in seeds)
        arm.close()
    print(
        f'dagger {number} worker {rank}: successes of {plan.dagger_episodes}: {succeeded} '
        f'({time.strftime("%H:%M:%S")})',
        flush=True,
    )
    return recorder.finish()


def _dagger_episode(
    arm: SimulatedArm, learned: CogActPolicy, seed: int, recorder: Recorder
) -> bool:
    rng = np.random.default_rng(seed)
    instruction = str(rng.choice(arm.task.instructions))

    def act(image: np.ndarray, state: np.ndarray) -> np.ndarray:
        observation = Observation({'camera': image}, instruction, state)
        return learned.predict(observation).chunk.values

    execute = (int(rng.integers(3, 9)) for _ in itertools.count())
    return policy_episode(arm, recorder, seed, act, execute, expert_share=0.1)


def _save_statistics(data: Demonstrations, directory: Path, dataset: str) -> None:
    """Write percentiles of the actions, and mean and deviation of the state."""
    actions = data.action.reshape(-1, data.action.shape[-1])
    low, high = np.quantile(actions, [0.01, 0.99], axis=0)
    statistics = {
        dataset: {
            'action': {
                'q01': low.tolist(),
                'q99': high.tolist(),
                'mask': [True, True, True, False],
            },
            'state': {'mean': data.state.mean(0).tolist(), 'std': data.state.std(0).tolist()},
            'num_transitions': len(actions),
        }
    }
    text = json.dumps(statistics, indent=1)
    (directory / STATISTICS_FILE).write_text(text + '\n', 'utf-8')


def _synchronise() -> None:
    if distributed.is_initialized():
        distributed.barrier()
