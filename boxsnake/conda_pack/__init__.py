"""Archives as conda-pack makes them: an environment that is unpacked anywhere, and mended where it lies."""
