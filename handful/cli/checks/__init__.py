"""The checks of ``handful doctor``, a file a place: settings and packages, store, checkpoints, machine, network."""
