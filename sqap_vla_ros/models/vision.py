"""Vision encoders and the projector: image to visual tokens of the decoder's width."""
import torch
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from sqap_vla_ros.models.attention import NAME as ATTENTION
from sqap_vla_ros.models.config import VisionConfig


class VisionEncoder(nn.Module):
    """One transformers vision tower, cut and masked as its configuration says."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        tower = SiglipVisionConfig(**config.model, vision_use_head=False,
                                   attn_implementation=ATTENTION)
        self.tower = SiglipVisionModel(tower)
        if config.drop_last_layers:
            del self.tower.encoder.layers[-config.drop_last_layers:]
        self.grid = config.model['image_size'] // config.model['patch_size']
        self.window_mask = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Encode images.

        image: float [B, 3, S, S] in [0, 1]. Returns [B, patches, width].
        """
        mean = image.new_tensor(self.config.image_mean)[:, None, None]
        std = image.new_tensor(self.config.image_std)[:, None, None]
        hidden = self.tower.embeddings((image - mean) / std)
        hidden = self.tower.encoder(inputs_embeds=hidden,
                                    attention_mask=self._mask(hidden)).last_hidden_state
        return self.tower.post_layernorm(hidden) if self.config.final_norm else hidden

    def _mask(self, hidden):
        window = self.config.attention_window
        if window is None:
            return None
        # Kept outside the buffers: it follows from the configuration, and a model that was built
        # without storage (to load compressed weights) has none to fill it from.
        if self.window_mask is None or self.window_mask.device != hidden.device:
            row, column = torch.meshgrid(torch.arange(self.grid), torch.arange(self.grid),
                                         indexing='ij')
            near = [(axis.flatten()[:, None] - axis.flatten()[None]).abs() <= window
                    for axis in (row, column)]
            self.window_mask = (near[0] & near[1])[None, None].to(hidden.device)
        return self.window_mask


def make_projector(kind: str, vision_width: int, width: int) -> nn.Module:
    """Build a projector as Prismatic VLMs name them, with their layer sizes."""
    if kind == 'gelu-mlp':
        sizes = [vision_width, width, width]
    elif kind == 'fused-gelu-mlp':
        sizes = [vision_width, 4 * vision_width, width, width]
    else:
        raise ValueError(f'projector is {kind!r}, expected \'gelu-mlp\' or \'fused-gelu-mlp\'')
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers += ([nn.GELU()] if i else []) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
