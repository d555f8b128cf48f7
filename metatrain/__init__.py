"""Meta-training as a command: options, a run from its first step to the checkpoint, curves."""
