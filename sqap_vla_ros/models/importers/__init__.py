"""Reading released checkpoints: files, tensor names, dataset statistics."""
