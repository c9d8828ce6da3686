"""Deltas: what makes the new version of a file out of the old one."""
