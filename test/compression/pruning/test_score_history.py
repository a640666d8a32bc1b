"""Scores over many inferences, and the scene changes that clear them."""

import numpy as np
import torch

from sqap_vla_ros.compression.pruning.score_history import SceneWatch, ScoreHistory

GREY = np.full((40, 60, 3), 100, np.uint8)


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
