"""Images as cameras send them: what their samples mean, and how they become RGB."""
