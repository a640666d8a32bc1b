"""Chunk execution, limits and the state machine of a running policy. Numpy, with an injected clock."""
