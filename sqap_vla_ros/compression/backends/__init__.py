"""Backends of the quantized layers: one interface, and one module per implementation."""
