"""A simulated arm: Meta-World scenes in MuJoCo, rendered offscreen."""

import os

# MuJoCo reads this when it is imported, which any module of this package may be the first to do.
os.environ.setdefault('MUJOCO_GL', 'egl')
