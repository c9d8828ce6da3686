"""Conda channels of one's own, built from recipes."""
