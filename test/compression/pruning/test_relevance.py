"""Scores of one inference: a row of attention, and the difference from the background."""

import pytest
import torch

from sqap_vla_ros.compression.pruning.relevance import attention_row, difference_from_mean


@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_attention_row_is_the_last_row_of_the_attention_matrix(kv_heads):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 9, 8, generator=generator)
    key = torch.randn(kv_heads, 9, 8, generator=generator)
    logits = query @ key.repeat_interleave(4 // kv_heads, 0).transpose(1, 2) / 8**0.5
    mask = torch.ones(9, 9).triu(1).bool()
    matrix = logits.masked_fill(mask, -torch.inf).softmax(-1)
    row = attention_row(query[:, -1], key, slice(1, 6))
    assert torch.allclose(row, matrix[:, -1, 1:6].mean(0), atol=1e-6)


def test_what_differs_from_the_background_ranks_first():
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    features[[3, 30]] += 5
    assert set(difference_from_mean(features).topk(2).indices.tolist()) == {3, 30}
