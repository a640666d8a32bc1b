"""The node of the simulated arm."""
