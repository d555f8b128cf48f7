"""Other projects' methods, each run in an environment of its own; see ``benchmarks/README.md``."""
