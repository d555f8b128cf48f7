"""The learning core: encoder, learners and the one inner loop. Pure torch; knows no network, store or settings."""
