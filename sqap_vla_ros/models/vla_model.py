"""What compression and loading ask of every model (see `compression.compress`)."""
import torch
from torch import nn


class VlaModel(nn.Module):
    """Base of the model families: targets by module name, pruning, buffers."""

    target_roots: dict[str, tuple[str, ...]] = {}
    """Quantization target to the modules whose linear layers belong to it."""

    def __init__(self):
        super().__init__()
        self.pruning = None

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder."""
        raise NotImplementedError

    def set_query_key_quantizer(self, quantizer):
        """Quantize rotated queries and keys; None: leave them alone."""
        raise NotImplementedError

    def set_pruning(self, recipe):
        """Prune visual tokens as the recipe says; None: keep all. Read by the policy."""
        self.pruning = recipe

    def quantization_targets(self) -> dict[str, list[str]]:
        """Names of the linear layers that compression may replace, by target."""
        return {target: [name for name, module in self.named_modules()
                         if isinstance(module, nn.Linear)
                         and any(name.startswith(f'{root}.') for root in roots)]
                for target, roots in self.target_roots.items()}

    def restore_buffers(self):
        """Make what no checkpoint holds, after loading into a model built without storage."""
        for module in self.modules():
            if getattr(module, 'position_ids', None) is not None and module.position_ids.is_meta:
                count = module.position_ids.shape[-1]
                module.position_ids = torch.arange(count).expand(1, -1)
