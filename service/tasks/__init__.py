"""The use cases: adapt, classify, predict, readapt, roll back, delete, list. No HTTP in them."""
