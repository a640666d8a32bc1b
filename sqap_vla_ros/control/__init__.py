"""Chunk execution, limits and the states of a running policy. Numpy, with an injected clock."""
