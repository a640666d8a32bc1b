"""Helpers of the tests: tiny models, DDS clients, stand-ins, generators of fixtures."""
