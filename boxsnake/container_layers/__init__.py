"""Layers that programs make: something is run in a container of the layers below, and what it changed is a layer.

Nothing is imported here: most images have no such layer.
"""
