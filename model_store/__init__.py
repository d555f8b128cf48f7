"""Storage: checkpoints on disk, adapters and their history in SQLite or Redis."""

DEFAULT_CHECKPOINT = "e5-small-handful"
"""Name of the shipped checkpoint that is used where none is named."""
