"""Packages of operating systems: what RPM and deb have in common, and what each has of its own."""
