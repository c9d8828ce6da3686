"""Packages of the base image's own distribution: resolved when locking, installed without a network when building."""

from boxsnake.system_packages.install import install_job, packages_layer
from boxsnake.system_packages.question import SystemQuestion, asked_lines, system_questions
from boxsnake.system_packages.resolve import Surroundings, lock_system, resolve_system

__all__ = [
    "Surroundings",
    "SystemQuestion",
    "asked_lines",
    "install_job",
    "lock_system",
    "packages_layer",
    "resolve_system",
    "system_questions",
]
