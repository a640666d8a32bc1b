"""What a policy goes through before it may be used."""

from sqap_vla_ros.inference.engine import Engine
from sqap_vla_ros.models.loading import load_policy


def test_warm_up_runs_the_policy_with_all_tokens_and_pruned(compressed):
    policy, kept = load_policy(compressed), []
    predict = policy.predict

    def look(observation):
        inference = predict(observation)
        kept.append(None if inference.selection is None else len(inference.selection.kept))
        return inference

    policy.predict = look
    engine = Engine(policy)
    assert kept == [None, 86, 86] * 2  # all, then 60 % of 144: for a black and a white image
    assert engine.info.warm_up_ms > 0
