"""
CogACT's action head: a diffusion transformer conditioned on the cognition token.

Architecture and names follow the released checkpoints (arXiv 2411.19650, section 3.3); sampling is
DDIM (arXiv 2010.02502, eq. 12 with eta 0) over a squared-cosine schedule (arXiv 2102.09672,
eq. 17).
"""

from functools import cache
import math
from typing import Any

import torch
from torch import nn

from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig
from sqap_vla_ros.models.layers.attention import attention
from sqap_vla_ros.models.layers.guidance import Guide


class TimestepEmbedder(nn.Module):
    """Sinusoidal embedding of the diffusion step, then two layers."""

    frequencies = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(self.frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, step: torch.Tensor) -> torch.Tensor:
        """Embed: step [B] -> [B, width]."""
        half = self.frequencies // 2
        rates = torch.exp(-math.log(10000) / half * torch.arange(half, device=step.device))
        angles = step[:, None].float() * rates
        wave = torch.cat([angles.cos(), angles.sin()], -1)
        first: Any = self.mlp[0]
        return self.mlp(wave.to(first.bias.dtype))


class ConditionEmbedder(nn.Module):
    """Linear embedding of the cognition token, with a learned embedding of 'no condition'."""

    def __init__(self, condition_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_width, width)
        self.uncondition = nn.Parameter(torch.randn(1, condition_width) * 0.02)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """Embed: condition [B, 1, condition_width] -> [B, 1, width]."""
        return self.linear(condition)


class _Linear(nn.Module):
    """Holds one linear layer under the name that the checkpoints give it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Attention(nn.Module):
    """Full self-attention with one projection for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform: x [B, N, width] -> [B, N, width]."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        out = attention(query, key, value)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two layers with a hidden size of four times the width, and tanh-approximated GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU(approximate='tanh')
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform: x [..., width] -> [..., width]."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block; the norms have no parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform: x [B, N, width] -> [B, N, width]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FinalLayer(nn.Module):
    """Norm and projection to the noise estimate, initialised to zero."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project: x [B, N, width] -> [B, N, outputs]."""
        return self.linear(self.norm_final(x))


class DiT(nn.Module):
    """Noise estimate for a noisy action chunk, given the diffusion step and the condition."""

    def __init__(
        self, config: ActionHeadConfig, condition_width: int, horizon: int, actions: int
    ) -> None:
        super().__init__()
        width = config.hidden_size
        self.x_embedder = _Linear(actions, width)
        self.t_embedder = TimestepEmbedder(width)
        self.z_embedder = ConditionEmbedder(condition_width, width)
        self.positional_embedding = nn.Parameter(torch.randn(horizon + 1, width) * width**-0.5)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, actions)

    def forward(
        self, noisy: torch.Tensor, step: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """Noisy [B, T, A], step [B], condition [B, 1, C] -> noise [B, T, A]."""
        token = self.t_embedder(step)[:, None] + self.z_embedder(condition)
        x = torch.cat([token, self.x_embedder(noisy)], 1) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return self.final_layer(x)[:, 1:]


class DiffusionActionHead(nn.Module):
    """Training loss and DDIM sampling around the transformer."""

    def __init__(
        self, config: ActionHeadConfig, condition_width: int, horizon: int, actions: int
    ) -> None:
        super().__init__()
        self.config = config
        self.net = DiT(config, condition_width, horizon, actions)
        self.shape = (horizon, actions)

    def loss(
        self, actions: torch.Tensor, condition: torch.Tensor, drop: float = 0.1
    ) -> torch.Tensor:
        """
        Mean squared error of the noise estimate at random steps.

        Args:
            actions: normalised, [B, T, A].
            condition: [B, 1, C].
            drop: probability of replacing the condition by the learned 'no condition'.
        """
        noise = torch.randn_like(actions)
        step = torch.randint(
            0, self.config.diffusion_steps, actions.shape[:1], device=actions.device
        )
        signal = cosine_alphas(self.config.diffusion_steps).to(actions)[step][:, None, None]
        noisy = signal.sqrt() * actions + (1 - signal).sqrt() * noise
        dropped = torch.rand(actions.shape[0], 1, 1, device=actions.device) < drop
        condition = torch.where(dropped, self.net.z_embedder.uncondition, condition)
        return (self.net(noisy, step, condition) - noise).square().mean()

    def sample(
        self, condition: torch.Tensor, noise: torch.Tensor, guide: Guide | None = None
    ) -> torch.Tensor:
        """
        Denoise by DDIM.

        Args:
            condition: [B, 1, C].
            noise: standard normal, [B, T, A].
            guide: corrects each step's estimate of the clean chunk; None for no correction.

        Returns:
            Normalised actions [B, T, A], not clipped.
        """
        total, guidance = self.config.diffusion_steps, self.config.guidance
        alphas = _alphas_on(total, noise.dtype, noise.device)
        steps = list(range(0, total, total // self.config.ddim_steps))
        batch = noise.shape[0]
        if guidance != 1:
            none = self.net.z_embedder.uncondition.expand(batch, 1, -1)
            condition = torch.cat([condition, none])
        x = noise
        for i in reversed(range(len(steps))):
            step = torch.full((condition.shape[0],), steps[i], device=noise.device)
            if guidance != 1:
                given, none = self.net(torch.cat([x, x]), step, condition).chunk(2)
                estimate = none + guidance * (given - none)
            else:
                estimate = self.net(x, step, condition)
            now = alphas[steps[i]]
            before = alphas[steps[i - 1]] if i else alphas.new_ones(())
            clean = (x - (1 - now).sqrt() * estimate) / now.sqrt()
            if guide is not None:
                clean = guide(clean)
                estimate = (x - now.sqrt() * clean) / (1 - now).sqrt()
            x = before.sqrt() * clean + (1 - before).sqrt() * estimate
        return x


@cache
@torch.inference_mode(False)
def _alphas_on(steps: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy `cosine_alphas` to the device, once."""
    return cosine_alphas(steps).to(device, dtype)


def cosine_alphas(steps: int) -> torch.Tensor:
    """Cumulative signal power [steps] of the squared-cosine schedule, betas capped at 0.999."""

    def level(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - level((i + 1) / steps) / level(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
