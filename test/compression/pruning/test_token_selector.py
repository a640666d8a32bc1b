"""Selection over many inferences: history, scene changes, phases, features."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning.coverage import farthest_points, feature_separation
from sqap_vla_ros.compression.pruning.phase import PhaseGate
from sqap_vla_ros.compression.pruning.relevance import difference_from_mean
from sqap_vla_ros.compression.pruning.score_history import SceneWatch, ScoreHistory
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.compression.recipe import PruningRecipe, Recipe, save_recipe
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Criterion

GREY = np.full((40, 60, 3), 100, np.uint8)


def policy_with(directory, tmp_path, **pruning):
    """Float policy with a pruning recipe."""
    save_recipe(Recipe('test', None, PruningRecipe(**pruning)), tmp_path / 'recipe.yaml')
    return load_policy(directory, recipe=tmp_path / 'recipe.yaml')


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


def test_what_differs_from_the_background_ranks_first():
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    features[[3, 30]] += 5
    assert set(difference_from_mean(features).topk(2).indices.tolist()) == {3, 30}


def test_history_smooths_exponentially():
    history = ScoreHistory(0.75)
    first, second = torch.rand(6), torch.rand(6)
    assert torch.equal(history.add(first), first)
    assert torch.allclose(history.add(second), 0.75 * first + 0.25 * second)
    history.reset()
    assert torch.equal(history.add(second), second)


def test_history_keeps_the_scores_of_tokens_that_were_not_seen():
    history = ScoreHistory(0.5)
    history.add(torch.tensor([0.4, 0.1, 0.2, 0.3]))
    # Tokens 0 and 3 are seen; they had 0.7 together, and now share it one to one.
    after = history.add(torch.tensor([0.5, 0.5]), torch.tensor([0, 3]))
    assert torch.allclose(after, torch.tensor([0.375, 0.1, 0.2, 0.325]))


def test_scene_changes_with_the_instruction_and_with_a_cut_but_not_with_a_moving_arm():
    watch = SceneWatch()
    assert not watch.changed(GREY, 'open')
    arm = GREY.copy()
    arm[5:20, 10:25] = 0
    assert not watch.changed(arm, 'open')
    assert watch.changed(arm, 'close')
    assert watch.changed(255 - GREY // 4, 'close')
    assert not watch.changed(255 - GREY // 4, 'close')
    watch.reset()
    assert not watch.changed(GREY, 'open')


def test_work_is_fine_when_slow_or_when_the_gripper_moves_or_when_unknown():
    gate = PhaseGate(0.05)
    step = int(0.1e9)
    assert gate.fine(0, np.zeros(3), 0.0)
    assert not gate.fine(step, np.array([0.01, 0, 0]), 0.0)  # 0.1 m/s
    assert gate.fine(2 * step, np.array([0.012, 0, 0]), 0.0)  # 0.02 m/s
    assert gate.fine(3 * step, np.array([0.03, 0, 0]), 0.5)
    assert not gate.fine(4 * step, np.array([0.05, 0, 0]), None)
    assert gate.fine(5 * step, None, None)
    assert gate.fine(6 * step, np.zeros(3), None)
    gate.reset()
    assert gate.fine(7 * step, np.ones(3), None)


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
