"""The task view, the map of a task's features: ``fit.py`` has the steps in their order, one file has each step."""
