"""Closed-loop evaluation of policies in the simulation."""
