"""Pipelines of build servers: check the lock, build, boot, publish. Values only.

What is done is the same everywhere (`steps`); each server has a module that says it in its own words.
"""
