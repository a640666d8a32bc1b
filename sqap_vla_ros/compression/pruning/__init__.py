"""Visual token pruning: which tokens stay. Imports nothing from `quantization`."""
