"""CogACT: vision encoders, a Llama decoder and a diffusion action head."""
