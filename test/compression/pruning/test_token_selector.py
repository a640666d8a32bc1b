"""Selection in a policy over many inferences, with each rule and several cameras."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.compression.recipe import PruningRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Criterion


def policy_with(directory, tmp_path, **pruning):
    """Float policy with a pruning recipe."""
    save_recipe(Recipe('test', None, PruningRecipe(**pruning)), tmp_path / 'recipe.yaml')
    return load_policy(directory, recipe=tmp_path / 'recipe.yaml')


def test_temporal_selection_keeps_all_at_first_and_after_a_change(
    policy_directory, observation, tmp_path
):
    policy = policy_with(
        policy_directory,
        tmp_path,
        relevance='temporal',
        layer=1,
        coverage='feature',
        smoothing=0.8,
    )

    def kept(instruction='open the red drawer'):
        selection = policy.predict(replace(observation, instruction=instruction)).selection
        return 64 if selection is None else len(selection.kept)

    assert [kept(), kept(), kept()] == [64, 38, 38]
    assert [kept('press the red drawer'), kept('press the red drawer')] == [64, 38]
    policy.reset()
    assert [kept('press the red drawer'), kept('press the red drawer')] == [64, 38]
    selection = policy.predict(replace(observation, instruction='press the red drawer')).selection
    assert set(selection.criterion.tolist()) == {
        Criterion.ATTENTION,
        Criterion.ROBOT,
        Criterion.FEATURE,
    }


def test_temporal_selection_keeps_what_later_layers_attended_to(
    policy_directory, observation, tmp_path
):
    policy = policy_with(policy_directory, tmp_path, relevance='temporal', method='top', layer=0)
    rows = []
    policy._selector.observe = lambda row: (
        rows.append(row),
        policy._selector._observed.append(row),
    )
    policy.predict(observation)
    assert len(rows) == 3 and all(len(row) == 64 for row in rows)
    expected = torch.stack(rows).mean(0).topk(38).indices.sort().values.numpy()
    assert np.array_equal(policy.predict(observation).selection.kept, expected)
    assert len(rows) == 6 and all(len(row) == 38 for row in rows[3:])


def test_smoothing_changes_the_selection_only_from_the_second_step_on(
    policy_directory, observation, tmp_path
):
    other = replace(observation, state=np.array([3, -2, 4, 1], np.float32))
    kept = []
    for smoothing in (0.0, 0.95):
        policy = policy_with(
            policy_directory, tmp_path, method='top', smoothing=smoothing, layer=2
        )
        kept.append([policy.predict(o).selection.kept.tolist() for o in (observation, other)])
    assert kept[0][0] == kept[1][0] and kept[0][1] != kept[1][1]


def test_difference_selection_needs_no_attention(policy_directory, observation, tmp_path):
    policy = policy_with(
        policy_directory,
        tmp_path,
        relevance='difference',
        coverage='feature',
        protection_radius_m=0.0,
        layer=0,
    )
    assert not policy._selector.needs_attention
    selection = policy.predict(observation).selection
    assert np.bincount(selection.criterion).tolist() == [0, 0, 0, 0, 19, 19]


def test_fine_work_keeps_more_tokens(policy_directory, observation, tmp_path):
    policy = policy_with(policy_directory, tmp_path, ratio=0.75, fine_ratio=0.0)
    moved = replace(observation, stamp_ns=10**8, end_effector_m=np.array([0.02, 0, 0]))
    slow = replace(moved, stamp_ns=2 * 10**8)
    assert policy.predict(observation).selection is None
    assert len(policy.predict(moved).selection.kept) == 16
    assert policy.predict(slow).selection is None


@pytest.mark.parametrize('method', ['sqap', 'top', 'random'])
def test_two_cameras_share_one_budget(method):
    selector = TokenSelector(PruningRecipe(ratio=0.5, method=method), (4, 4), cameras=2)
    near = np.full(32, np.inf)
    near[[5, 20]] = 0.0
    selector.begin(near)
    scores = torch.rand(32, generator=torch.Generator().manual_seed(0))
    kept = selector.select(scores, torch.randn(32, 8)).tolist()
    assert len(set(kept)) == 16
    if method == 'sqap':
        assert {5, 20} <= set(kept) and min(kept) < 16 <= max(kept)


def test_a_share_of_the_budget_keeps_as_many_tokens_fewer_but_one_at_least():
    selector = TokenSelector(PruningRecipe(ratio=0.5, method='random'), (4, 4))
    features = torch.zeros(16, 3)
    for share, kept in ((1.0, 8), (0.5, 4), (0.25, 2), (0.001, 1), (1.0, 8)):
        selector.share = share
        selector.begin()
        assert len(selector.select(None, features)) == kept
