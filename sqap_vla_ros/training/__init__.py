"""Reproduces the policy that ships with the package: data generation, imitation, DAgger."""
