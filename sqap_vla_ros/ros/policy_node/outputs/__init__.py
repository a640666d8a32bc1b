"""Output adapters: one file for each kind of controller; `registry.py` lists them."""
