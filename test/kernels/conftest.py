"""Triton kernels are tested in its interpreter, which is chosen before Triton is imported."""
import os

os.environ['TRITON_INTERPRET'] = '1'
