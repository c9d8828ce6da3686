"""Layers that programs make: something is run in a container of the layers below, and what it changed is a layer."""

from boxsnake.container_layers.changed import changed_members
from boxsnake.container_layers.run import Below, Job, container_of, known_layer, last_lines, made_layer

__all__ = ["Below", "Job", "changed_members", "container_of", "known_layer", "last_lines", "made_layer"]
