"""Splits one inference into stages for the benchmark."""

from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.family import BenchmarkInputs, Stage


def stages(model: CogActModel, inputs: BenchmarkInputs) -> list[Stage]:
    """See `Family.stages`."""
    size = model.config.image_size
    image = inputs.noise(1, 3, size, size)
    start = inputs.noise(1, *model.action_head.shape)
    return [
        ('vision', lambda _: model.encode_image(image)),
        (
            'decoder',
            lambda visual: inputs.pruned(
                lambda point: model.cognition(visual, inputs.text, None, point)[0]
            ),
        ),
        ('action_head', lambda condition: model.action_head.sample(condition, start)),
    ]
