"""Packages of the base image's own distribution: resolved when locking, installed without a network when building.

Nothing is imported here: every command asks the questions, and few need the rest.
"""
