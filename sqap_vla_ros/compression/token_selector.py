"""A pruning recipe at work: one inference after another."""
import numpy as np
import torch

from sqap_vla_ros.compression.recipe import PruningRecipe
from sqap_vla_ros.compression.token_selection import (grid_separation, Kept, select_by_criteria,
                                                      select_random, select_top)


class TokenSelector:
    """
    Chooses the visual tokens of each inference.

    Call `begin` before an inference and `select` in it, once; `kept` is the outcome. Belongs to
    the thread that runs the model.
    """

    def __init__(self, recipe: PruningRecipe, grid: tuple[int, int], cameras: int = 1,
                 device: torch.device | str = 'cpu'):
        self.recipe = recipe
        self.tokens = grid[0] * grid[1] * cameras
        self.budget = recipe.kept(self.tokens)
        self.needs_attention = recipe.method != 'random'
        self.kept: Kept | None = None
        self._device = torch.device(device)
        self._separation = grid_separation(grid, cameras).to(device)
        self.reset()

    def reset(self):
        """Forget earlier inferences."""
        self._generator = torch.Generator().manual_seed(self.recipe.seed)
        self.begin(None)

    def begin(self, distances_m: np.ndarray | None):
        """
        Say what is known of this inference before the model runs.

        distances_m: [tokens], of each patch to the projected end effector; None: not known.
        """
        self.kept = None
        if distances_m is None:
            distances_m = np.full(self.tokens, np.inf)
        radius = self.recipe.protection_radius_m
        protection = np.where((distances_m <= radius) & (radius > 0), distances_m, np.inf)
        self._protection = torch.from_numpy(protection).float().to(self._device)

    def select(self, attention: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
        """
        Choose.

        attention: [tokens], of the task query, None where `needs_attention` is false; features:
        [tokens, width], of the visual tokens where they are pruned. Returns int64 [budget],
        ascending.
        """
        recipe = self.recipe
        if recipe.method == 'random':
            self.kept = select_random(self.tokens, self.budget, self._generator, features.device)
        elif recipe.method == 'attention':
            self.kept = select_top(attention, self.budget)
        else:
            self.kept = select_by_criteria(attention, self._protection, self._separation,
                                           self.budget,
                                           round(recipe.attention_share * self.budget))
        return self.kept.indices
