"""The encoder: texts to features by a list of stages. ``stages`` needs no torch; ``encoder`` builds what they name."""
