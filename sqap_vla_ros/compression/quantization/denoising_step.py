"""Which denoising step runs: what the action head's layers see changes much from step to step."""

import torch


class DenoisingStep:
    """
    The index of the running step, kept on the device so that nothing waits for it.

    Layers that are given it take the activation scale of that step.
    """

    def __init__(self, steps: int, stride: int) -> None:
        """Count `steps` of the sampler, `stride` diffusion steps from one to the next."""
        self.steps, self._stride = steps, stride
        self.index = torch.zeros(1, dtype=torch.int64)

    def enter(self, diffusion_step: torch.Tensor) -> None:
        """Begin a step; diffusion_step: int64 [B], the same for all."""
        self.index = (diffusion_step[:1] // self._stride).clamp_(max=self.steps - 1)
