"""What compression and loading ask of every model (see `compression.compress`)."""

from typing import ClassVar, NoReturn

import torch
from torch import nn

from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.errors import UserError


class VlaModel(nn.Module):
    """Base of the model families: targets by module name, pruning, buffers."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Quantization target to the modules whose linear layers belong to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pruning = None

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder."""
        raise NotImplementedError

    def set_query_key_quantizer(self, quantizer):
        """Quantize rotated queries and keys; None: leave them alone."""
        raise NotImplementedError

    def set_pruning(self, recipe) -> None:
        """Prune visual tokens as the recipe says; None: keep all. Read by the policy."""
        self.pruning = recipe

    def set_denoising_steps(self, steps: int) -> NoReturn:
        """Let the head denoise in so many steps. Raises UserError where that is not possible."""
        raise UserError(
            'recipe: denoising_steps is for heads that denoise; leave it out for this model family'
        )

    def residual_readers(self) -> list[str]:
        """Names of the linear layers whose input is the decoder's normed residual stream."""
        return []

    def rotate_residual(self, seed: int) -> NoReturn:
        """
        Rotate the residual stream of a float decoder offline; outputs stay the same.

        seed: of the rotation's random signs. Raises UserError for families that cannot.
        """
        raise UserError(
            'recipe: rotate_residual is not possible for this model family; leave it false'
        )

    def expect_rotated_residual(self) -> None:
        """Make room for what `rotate_residual` adds, before a checkpoint fills it."""

    def denoising_step(self) -> DenoisingStep | None:
        """
        Which denoising step the action head is in; the same object at every call.

        None: the head has no such loop, or its layers share one scale over all steps.
        """
        return None

    def quantization_targets(self, also: type = nn.Linear) -> dict[str, list[str]]:
        """
        Names of the linear layers that compression may replace, by target.

        also: the class that replaced them, to find them again.
        """
        return {
            target: [
                name
                for name, module in self.named_modules()
                if isinstance(module, (nn.Linear, also))
                and any(name.startswith(f'{root}.') for root in roots)
            ]
            for target, roots in self.target_roots.items()
        }

    def restore_buffers(self) -> None:
        """Make what no checkpoint holds, after loading into a model built without storage."""
        for module in self.modules():
            if getattr(module, 'position_ids', None) is not None and module.position_ids.is_meta:
                count = module.position_ids.shape[-1]
                module.position_ids = torch.arange(count).expand(1, -1)
