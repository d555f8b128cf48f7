"""Storage: checkpoints on disk, adapters and their history in SQLite or Redis."""
