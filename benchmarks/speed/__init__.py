"""The benchmark of speed: through HTTP, beside the bare encoder and other projects, in one run."""
