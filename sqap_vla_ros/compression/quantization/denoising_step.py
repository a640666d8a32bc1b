"""Activation scales per denoising step: the inputs of an action head differ from step to step."""

import torch


class DenoisingStep:
    """
    Index of the running denoising step, kept on the device so that nothing waits for it.

    The action head owns it and enters each step. Layers that hold a reference to it use the
    activation scale of that step.
    """

    def __init__(self, steps: int, stride: int) -> None:
        """
        Begin at step 0.

        Args:
            steps: number of steps of the sampler.
            stride: diffusion steps from one step of the sampler to the next.
        """
        self.steps, self._stride = steps, stride
        self.index = torch.zeros(1, dtype=torch.int64)
        """int64 [1]."""

    def enter(self, diffusion_step: torch.Tensor) -> None:
        """Begin a step; diffusion_step: int64 [B], the same value for all of the batch."""
        self.index = (diffusion_step[:1] // self._stride).clamp_(max=self.steps - 1)
