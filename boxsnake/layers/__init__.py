"""Layers: which owners share one, what each brings, and how they come out of the store, of pieces or of a tree."""
