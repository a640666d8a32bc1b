"""The policy node: inputs, goals, control, outputs and reports."""
