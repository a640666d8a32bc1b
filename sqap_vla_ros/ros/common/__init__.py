"""What several nodes share: running a node, parameters, messages, images."""
