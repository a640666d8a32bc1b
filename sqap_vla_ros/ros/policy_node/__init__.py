"""The policy node: inputs, goals, inference, commands, outputs and reports."""
