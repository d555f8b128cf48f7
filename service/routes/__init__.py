"""The HTTP routes, a file each for adapt, predict, tasks and health."""
