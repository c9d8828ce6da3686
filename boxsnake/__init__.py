"""One locked set of conda and pip requirements, every deployable box, each one proven to boot."""

__version__ = "0.1.0"
