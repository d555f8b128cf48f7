"""Tests of the doors, with the real clients of the other APIs."""
