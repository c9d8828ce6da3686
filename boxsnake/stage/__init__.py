"""Staging: the locked packages installed once, in the ordinary way, into one tree that every format then takes.

`boxsnake.stage.staging` does it; the other modules are its parts.
"""
