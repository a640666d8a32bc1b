"""Imitation learning: losses, learning-rate schedule, and a resumable training loop."""

from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
import torch
from torch import distributed, nn
from torch.nn.functional import l1_loss
from tqdm import tqdm

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import replaced_file
from sqap_vla_ros.input_files import open_safetensors
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.preprocessing.statistics import Statistics
from sqap_vla_ros.models.preprocessing.words import WordTokenizer
from sqap_vla_ros.simulation.tasks import TASKS
from sqap_vla_ros.training.dataset import Demonstrations


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, constant, linear decay to one fiftieth."""

    steps: int
    batch: int = 32
    """Samples per step and worker."""
    rate: float = 1e-3
    """Learning rate between warm-up and decay."""
    warm_up: int = 200
    """Steps of the warm-up."""
    decay_share: float = 0.35
    """Fraction of the steps, at the end, during which the rate decays."""
    average: float = 0.998
    """Decay of the moving average of the weights; the average is the result of training."""

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        decay = max(1.0, self.steps * self.decay_share)
        left = (self.steps - step) / decay
        return self.rate * min(1.0, (step + 1) / self.warm_up, max(left, 0.02))


class Learner(nn.Module):
    """
    The model, and two auxiliary heads that only training has.

    They regress the chunk and the target's position from the cognition token. With them, the model
    finds the relevant part of the image much sooner than with the diffusion loss alone.
    """

    def __init__(self, model: CogActModel) -> None:
        super().__init__()
        self.model = model
        width = model.config.llama['hidden_size']
        horizon, actions = model.action_head.shape
        self.chunk = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, horizon * actions)
        )
        self.target = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))

    def forward(self, batch: dict[str, torch.Tensor], repeats: int = 4) -> dict[str, torch.Tensor]:
        """Compute the losses; the diffusion head sees every condition `repeats` times."""
        visual = self.model.encode_image(batch['image'].float() / 255)
        condition, _ = self.model.cognition(visual, batch['text'], batch['state'])
        actions = batch['action']
        return {
            'diffusion': self.model.action_head.loss(
                actions.repeat(repeats, 1, 1), condition.repeat(repeats, 1, 1)
            ),
            'chunk': l1_loss(self.chunk(condition).view_as(actions), actions),
            'target': l1_loss(self.target(condition)[:, 0], batch['target']),
        }


class Batches:
    """Draws random, normalised samples of the demonstrations."""

    def __init__(
        self,
        data: Demonstrations,
        tasks: Sequence[str],
        tokenizer: WordTokenizer,
        statistics: Statistics,
    ) -> None:
        self.data, self.statistics = data, statistics
        self._texts = [
            [tokenizer.encode(text) for text in TASKS[name].instructions] for name in tasks
        ]

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, torch.Tensor]:
        """Draw samples with replacement, each with one of its task's instructions."""
        rows = rng.integers(len(self.data.image), size=size)
        texts = [self._texts[task] for task in self.data.task[rows]]
        return {
            'image': torch.from_numpy(self.data.image[rows]),
            'text': torch.tensor([text[rng.integers(len(text))] for text in texts]),
            'state': torch.from_numpy(self.statistics.normalise_state(self.data.state[rows])),
            'action': torch.from_numpy(self.statistics.normalise_action(self.data.action[rows])),
            'target': torch.from_numpy((self.data.target[rows] - [0, 0.7, 0.15]) * 5).float(),
        }


class Trainer:
    """Trains a learner; with torch.distributed, the processes average their gradients."""

    def __init__(
        self, learner: Learner, schedule: Schedule, directory: Path, device: str, seed: int
    ) -> None:
        self.learner, self.schedule = learner.to(device), schedule
        self.directory, self.device, self.seed = directory, device, seed
        self.parameters = list(learner.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, schedule.rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True
        )
        self.average = {k: v.detach().clone() for k, v in learner.model.state_dict().items()}
        self.step = 0
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.workers = distributed.get_world_size() if distributed.is_initialized() else 1

    def run(self, batches: Batches, until: int, save_every: int = 250) -> None:
        """Train up to step `until`."""
        self.learner.train()
        progress = tqdm(
            total=self.schedule.steps,
            initial=self.step,
            desc='train',
            disable=self.rank > 0,
            mininterval=10,
        )
        recent: dict[str, float] = {}
        while self.step < until:
            # One generator per step and worker: a resumed run draws the same samples.
            draw = np.random.default_rng((self.seed, self.step, self.rank))
            torch.manual_seed(int(draw.integers(2**62)))
            losses = self._update(batches.draw(draw, self.schedule.batch))
            for name, loss in losses.items():
                recent[name] = 0.98 * recent.get(name, loss) + 0.02 * loss
            progress.update()
            progress.set_postfix({k: f'{v:.3f}' for k, v in recent.items()}, refresh=False)
            if self.step % save_every == 0 or self.step == until:
                self.save()
        progress.close()

    def _update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group['lr'] = self.schedule.rate_at(self.step)
        batch = {name: value.to(self.device) for name, value in batch.items()}
        with torch.autocast(self.device, torch.bfloat16):
            losses = self.learner(batch)
        self.optimizer.zero_grad()
        (losses['diffusion'] + losses['chunk'] + losses['target']).backward()
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        decay = min(self.schedule.average, self.step / (self.step + 20))
        with torch.no_grad():
            for name, value in self.learner.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _average_gradients(self) -> None:
        if self.workers == 1:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.workers
        for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(piece.view_as(gradient))

    def averaged_model(self) -> CogActModel:
        """Return a copy of the model with the averaged weights."""
        model = CogActModel(self.learner.model.config)
        model.load_state_dict(self.average)
        return model

    def save(self) -> None:
        """Write everything that `resume` needs, atomically; only the first worker writes."""
        if self.rank > 0:
            return
        tensors = {f'learner.{k}': v for k, v in self.learner.state_dict().items()}
        tensors |= {f'average.{k}': v for k, v in self.average.items()}
        for i, state in self.optimizer.state_dict()['state'].items():
            tensors |= {f'optimizer.{i}.{k}': v for k, v in state.items()}
        with replaced_file(self.directory / 'training.safetensors') as partial:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()},
                partial,
                metadata={'step': json.dumps(self.step)},
            )

    def resume(self) -> bool:
        """
        Continue from the last `save`; returns whether there was one.

        Raises:
            UserError: the file is damaged, or of a model of another shape.
        """
        path = self.directory / 'training.safetensors'
        if not path.exists():
            return False
        with open_safetensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        try:
            self._take(tensors)
        except (RuntimeError, KeyError, ValueError, IndexError) as error:
            reason = ' '.join(str(error).split())[:200]
            raise UserError(
                f'{path}: not of this model and plan ({reason}); train in another directory, or '
                'remove the file to begin anew'
            ) from None
        return True

    def _take(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take what `save` wrote; raises what torch raises for tensors of another model."""
        self.learner.load_state_dict(
            {k[8:]: v for k, v in tensors.items() if k.startswith('learner.')}
        )
        average = {k[8:]: v for k, v in tensors.items() if k.startswith('average.')}
        CogActModel(self.learner.model.config).load_state_dict(average)
        state = self.optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith('optimizer.'):
                _, i, key = name.split('.')
                state['state'].setdefault(int(i), {})[key] = value
        step = int(state['state'][0]['step'])
        self.optimizer.load_state_dict(state)
        self.average, self.step = average, step
