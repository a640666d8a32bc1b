"""Images, text and numbers on their way into and out of a model."""
