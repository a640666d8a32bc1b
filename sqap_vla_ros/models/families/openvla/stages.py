"""Splits one inference into stages for the benchmark."""

from sqap_vla_ros.models.families.openvla.model import OpenVlaModel
from sqap_vla_ros.models.family import BenchmarkInputs, Stage


def stages(model: OpenVlaModel, inputs: BenchmarkInputs) -> list[Stage]:
    """See `Family.stages`."""
    size, count = model.config.image_size, len(model.config.action)
    image = inputs.noise(1, 3, size, size)
    return [
        ('vision', lambda _: model.encode_image(image)),
        (
            'prefill',
            lambda visual: inputs.pruned(
                lambda point: model.prefill(visual, inputs.text, point)[:2]
            ),
        ),
        ('decode', lambda state: model.write(state[0], state[1], count)),
    ]
