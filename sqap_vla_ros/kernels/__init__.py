"""Low-bit arithmetic: C++ for the CPU (`csrc/`), Triton for the GPU. Torch only."""
