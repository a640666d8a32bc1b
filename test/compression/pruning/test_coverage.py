"""Farthest point sampling over places and features, against its definition."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import torch

from sqap_vla_ros.compression.pruning.coverage import (
    farthest_points,
    feature_separation,
    grid_separation,
)

from support.farthest_points import brute_force_farthest

GRID = (4, 6)
TOKENS = 24


@settings(deadline=None, max_examples=100)
@given(st.sets(st.integers(0, TOKENS - 1), max_size=10), st.integers(1, 12))
def test_farthest_points_are_those_of_the_definition(chosen, count):
    places = np.array([(r, c) for r in range(GRID[0]) for c in range(GRID[1])], float)
    mask = torch.zeros(TOKENS, dtype=torch.bool)
    mask[list(chosen)] = True
    points = farthest_points(grid_separation(GRID), mask, count)
    assert points.tolist() == brute_force_farthest(places, chosen, count)


def test_coverage_visits_every_camera():
    separation = grid_separation(GRID, cameras=3)
    assert separation.shape == (3 * TOKENS, 3 * TOKENS)
    mask = torch.zeros(3 * TOKENS, dtype=torch.bool)
    mask[5] = True
    first = farthest_points(separation, mask, 2) // TOKENS
    assert sorted(first.tolist()) == [1, 2]


def test_feature_diversity_is_greedy_max_min_cosine_distance():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    cosine = np.array(
        [[float(torch.cosine_similarity(a, b, 0)) for b in features] for a in features]
    )
    chosen = [4]
    for _ in range(8):
        worst = (1 - cosine[:, chosen]).min(1)
        worst[chosen] = -1
        chosen.append(int(worst.argmax()))
    mask = torch.zeros(20, dtype=torch.bool)
    mask[4] = True
    assert farthest_points(feature_separation(features), mask, 8).tolist() == chosen[1:]
