"""A simulated arm: Meta-World scenes in MuJoCo, rendered offscreen."""
