"""How a task sees features: ``fit.py`` has the steps in their order, one file has each step."""
