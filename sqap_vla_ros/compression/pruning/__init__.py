"""Visual token pruning: which tokens stay. Imports nothing of `quantization`."""
