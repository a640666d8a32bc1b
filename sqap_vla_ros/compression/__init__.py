"""SQAP: low-bit quantization and visual token pruning, designed together. Torch only."""
