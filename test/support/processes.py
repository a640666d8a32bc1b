"""What tests ask of processes that are not their children."""

from pathlib import Path


def runs(pid):
    """Whether a process runs; a zombie, which nobody has reaped yet, does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False
