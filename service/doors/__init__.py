"""Doors: the shapes of other APIs, on the same use cases as our own routes. One file each."""
