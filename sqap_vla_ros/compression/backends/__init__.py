"""Who multiplies: one small interface, and one module for each implementation of it."""
