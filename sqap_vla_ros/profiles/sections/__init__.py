"""The sections of a robot profile, each read by a module of its own."""
