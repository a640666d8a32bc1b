"""SQAP: low-bit quantization and visual token pruning, designed together. Needs only torch."""
