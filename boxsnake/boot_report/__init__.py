"""Boot reports: what was tried on boxes, for people, programs and build servers. Values and pure functions."""
