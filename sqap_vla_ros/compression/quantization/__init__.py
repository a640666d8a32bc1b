"""Low-bit weights and activations: integers, rounding and linear layers."""
