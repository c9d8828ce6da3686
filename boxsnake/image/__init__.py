"""Container images: what they say of themselves, and the way into an engine."""
