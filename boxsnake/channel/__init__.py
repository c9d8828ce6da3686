"""Local conda channels, built from recipes."""

from __future__ import annotations

from boxsnake.channel.build import Built, Package, build, listing

__all__ = ["Built", "Package", "build", "listing"]
