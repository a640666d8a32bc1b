"""OpenVLA: vision encoders and a Llama decoder that writes action tokens."""
