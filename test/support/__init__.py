"""Helpers of the tests: tiny models, DDS clients, stand-ins and generators of fixtures."""
