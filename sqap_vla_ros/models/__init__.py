"""Vision-language-action models behind one interface. Torch and transformers only."""
