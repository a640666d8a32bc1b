"""The interface that compression and loading use of a model (see `compression.compress`)."""

from typing import Any, ClassVar

import torch
from torch import nn

from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import PruningRecipe
from sqap_vla_ros.errors import UserError


class VlaModel(nn.Module):
    """Base class of the models of all families."""

    config: Any
    """Configuration of the family; it has a `model_type`."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Maps each quantization target to the modules whose linear layers belong to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pruning: PruningRecipe | None = None

    @property
    def grid(self) -> int:
        """Number of rows, and of columns, of one camera's grid of visual tokens."""
        raise NotImplementedError

    @property
    def head_width(self) -> int:
        """Number of channels of one attention head of the decoder."""
        raise NotImplementedError

    def set_query_key_quantizer(self, quantizer: QueryKeyQuantizer | None) -> None:
        """Set how rotated queries and keys are quantized; None to leave them unquantized."""
        raise NotImplementedError

    def set_pruning(self, recipe: PruningRecipe | None) -> None:
        """Set how visual tokens are pruned; None to keep all. The policy reads it."""
        self.pruning = recipe

    def set_denoising_steps(self, steps: int) -> None:
        """
        Set the number of denoising steps of the head.

        Raises:
            UserError: the head has no denoising steps, or does not support this number.
        """
        raise UserError(
            'recipe: denoising_steps is for heads that denoise; leave it out for this model family'
        )

    def residual_readers(self) -> list[str]:
        """List the linear layers whose input is the decoder's normed residual stream."""
        return []

    def rotate_residual(self, seed: int) -> None:
        """
        Rotate the residual stream of a float decoder offline; outputs stay the same.

        Args:
            seed: seed of the random signs of the rotation.

        Raises:
            UserError: the family does not support it.
        """
        raise UserError(
            'recipe: rotate_residual is not possible for this model family; leave it false'
        )

    def expect_rotated_residual(self) -> None:
        """Allocate the tensors that `rotate_residual` adds, before a checkpoint fills them."""

    def denoising_step(self) -> DenoisingStep | None:
        """
        Get the current denoising step of the action head; the same object at every call.

        None if the head has no denoising loop, or if its layers share one scale over all steps.
        """
        return None

    def quantization_targets(self, also: type = nn.Linear) -> dict[str, list[str]]:
        """
        List the linear layers that compression may replace, by target.

        Args:
            also: class of layers that have replaced linear layers, to list these as well.
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
        """Fill buffers that no checkpoint holds, after loading into a model on the meta device."""
        module: Any
        for module in self.modules():
            if getattr(module, 'position_ids', None) is not None and module.position_ids.is_meta:
                count = module.position_ids.shape[-1]
                module.position_ids = torch.arange(count).expand(1, -1)
