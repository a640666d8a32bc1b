"""One folder for each model family; `models/registry.py` lists them."""
