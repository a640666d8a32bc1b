"""Shape and arithmetic of one quantized layer."""

from dataclasses import dataclass

from torch import nn

from sqap_vla_ros.compression.recipe import QuantizationRecipe


@dataclass(frozen=True)
class LinearFormat:
    """What a backend needs to know to say whether it can run a layer."""

    inputs: int
    outputs: int
    bias: bool
    weight_bits: int
    weight_group: int | None
    """Inputs that share a weight scale; None: one scale per output."""
    activation_bits: int
    activation_granularity: str
    rotated: bool
    """Whether inputs are rotated at run time."""
    static_scales: int = 0
    """Number of fixed activation scales: 0 (dynamic), 1, or one per denoising step."""

    @property
    def packed(self) -> bool:
        """Whether two codes share a byte."""
        return self.weight_bits <= 4

    @classmethod
    def of(
        cls, linear: nn.Linear, recipe: QuantizationRecipe, rotated: bool = True, steps: int = 1
    ) -> 'LinearFormat':
        """
        Format that a recipe gives to a float layer.

        A group that does not divide the inputs gives one scale per output.

        Args:
            linear: the float layer.
            recipe: bits, groups, rotation and scales.
            rotated: False if the layer's inputs arrive rotated.
            steps: steps of the denoising loop that runs the layer; 1 outside of one.

        Raises:
            ValueError: the inputs do not pack into whole bytes.
        """
        group = recipe.weight_group
        if group is not None and (linear.in_features % group or group >= linear.in_features):
            group = None
        if recipe.weight_bits <= 4 and linear.in_features % 2:
            raise ValueError(f'{linear.in_features} inputs do not pack into whole bytes')
        return cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            recipe.weight_bits,
            group,
            recipe.activation_bits,
            recipe.activation_granularity,
            rotated and recipe.rotation != 'none',
            steps if recipe.activation_scales == 'static' else 0,
        )
