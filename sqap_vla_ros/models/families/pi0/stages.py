"""Splits one inference into stages for the benchmark."""

from sqap_vla_ros.models.families.pi0.model import Pi0Model
from sqap_vla_ros.models.family import BenchmarkInputs, Stage


def stages(model: Pi0Model, inputs: BenchmarkInputs) -> list[Stage]:
    """See `Family.stages`."""
    config = model.config
    images = inputs.noise(len(config.cameras), 3, config.image_size, config.image_size)
    state = inputs.noise(1, config.model['max_state_dim'])
    start = inputs.noise(1, config.horizon, config.model['max_action_dim'])
    return [
        ('vision', lambda _: model.encode_images(images)),
        (
            'decoder',
            lambda visual: inputs.pruned(
                lambda point: model.prefix(visual, inputs.text, point)[0]
            ),
        ),
        ('action_head', lambda cache: model.sample(cache, state, start)),
    ]
