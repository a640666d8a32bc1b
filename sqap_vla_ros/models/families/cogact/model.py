"""
CogACT: vision encoders, projector, Llama decoder, and a diffusion action head.

The decoder reads [BOS | visual | text | state? | cognition]; the final hidden state of the
cognition token conditions the head (arXiv 2411.19650). The small policy that ships with this
package is one configuration of these classes.
"""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import LlamaConfig

from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs
from sqap_vla_ros.models.families.cogact.action_head import DiffusionActionHead
from sqap_vla_ros.models.families.cogact.config import CogActConfig
from sqap_vla_ros.models.layers.decoder import PrunableDecoder
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.layers.vision import make_projector, VisionEncoder
from sqap_vla_ros.models.preprocessing.words import BOS, COGNITION
from sqap_vla_ros.models.vla_model import VlaModel


class CogActModel(VlaModel):
    """The module tree, and its forward pass in two halves: condition, then actions."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {
        'decoder': ('decoder.llama.layers',),
        'vision': ('vision',),
        'action_head': ('action_head.net.blocks',),
    }

    def __init__(self, config: CogActConfig) -> None:
        super().__init__()
        self._denoising: DenoisingStep | None = None
        self.config = config
        llama = LlamaConfig(**config.llama)
        width = llama.hidden_size
        self.vision = nn.ModuleList(VisionEncoder(v) for v in config.vision)
        vision_width = sum(v.model['hidden_size'] for v in config.vision)
        self.projector = make_projector(config.projector, vision_width, width)
        self.decoder = PrunableDecoder(llama)
        self.state_encoder = (
            nn.Sequential(nn.Linear(len(config.state), width), nn.GELU(), nn.Linear(width, width))
            if config.state
            else None
        )
        self.action_head = DiffusionActionHead(
            config.action_head, width, config.horizon, len(config.action)
        )

    @property
    def grid(self) -> int:
        """Rows, and columns, of visual tokens."""
        first: Any = self.vision[0]
        return int(first.grid)

    @property
    def visual(self) -> slice:
        """Where the visual tokens are in the decoder's sequence."""
        return slice(1, 1 + self.grid**2)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """image: float [B, 3, S, S] in [0, 1]. Returns visual tokens [B, patches, width]."""
        return self.projector(torch.cat([encoder(image) for encoder in self.vision], -1))

    def embed(
        self, visual: torch.Tensor, text: torch.Tensor, state: torch.Tensor | None
    ) -> torch.Tensor:
        """
        Lay out the decoder's input.

        Args:
            visual: [B, patches, width].
            text: ids [B, length].
            state: normalised [B, states], or None.

        Returns:
            [B, N, width].
        """

        def token(identity):
            return words(text.new_full((text.shape[0], 1), identity))

        words = self.decoder.llama.embed_tokens
        parts = [token(BOS), visual, words(text)]
        if self.state_encoder is not None:
            parts.append(self.state_encoder(state)[:, None])
        return torch.cat([*parts, token(COGNITION)], 1)

    def cognition(
        self,
        visual: torch.Tensor,
        text: torch.Tensor,
        state: torch.Tensor | None,
        pruning: PruningPoint | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Run the decoder.

        Args:
            visual: [B, patches, width].
            text: ids [B, length].
            state: normalised [B, states], or None.
            pruning: where visual tokens leave, for B = 1; None: all stay.

        Returns:
            The final hidden state of the cognition token [B, 1, width], and the kept visual
            tokens [budget] or None.
        """
        hidden, kept = self.decoder(self.embed(visual, text, state), self.visual, pruning)
        return hidden[:, None], kept

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder."""
        first: Any = self.decoder.llama.layers[0]
        return int(first.self_attn.head_dim)

    def residual_readers(self) -> list[str]:
        """See `VlaModel`."""
        readers = (
            'self_attn.q_proj',
            'self_attn.k_proj',
            'self_attn.v_proj',
            'mlp.gate_proj',
            'mlp.up_proj',
        )
        return [
            f'decoder.llama.layers.{i}.{name}'
            for i in range(len(self.decoder.llama.layers))
            for name in readers
        ]

    def rotate_residual(self, seed: int) -> None:
        """See `VlaModel`."""
        projector: Any = self.projector
        writers = [projector[-1]]
        if self.state_encoder is not None:
            writers.append(self.state_encoder[-1])
        signs = random_signs(self.decoder.config.hidden_size, seed)
        self.decoder.rotate_residual(signs, writers)

    def expect_rotated_residual(self) -> None:
        """See `VlaModel`."""
        self.decoder.residual_signs = torch.empty(
            self.decoder.config.hidden_size, dtype=torch.int8, device='meta'
        )

    def set_denoising_steps(self, steps: int) -> None:
        """See `VlaModel`."""
        head = self.action_head.config
        if head.diffusion_steps % steps:
            raise UserError(
                f'recipe: denoising_steps is {steps}, expected a divisor of the '
                f"head's {head.diffusion_steps} diffusion steps"
            )
        self.action_head.config = replace(head, ddim_steps=steps)

    def denoising_step(self) -> DenoisingStep:
        """See `VlaModel`."""
        if self._denoising is None:
            head = self.action_head.config
            step = DenoisingStep(head.ddim_steps, head.diffusion_steps // head.ddim_steps)
            self.action_head.net.register_forward_pre_hook(lambda _, inputs: step.enter(inputs[1]))
            self._denoising = step
        return self._denoising

    def set_query_key_quantizer(self, quantizer: QueryKeyQuantizer | None) -> None:
        """Quantize rotated queries and keys; None: leave them alone."""
        self.decoder.query_key_quantizer = quantizer
