"""Requirements: what an application needs from conda and from a Python index.

Its values are here; the parsers are modules of their own: `requirements_txt`, `environment_yml`, and for one
requirement `pip_requirement` and `conda_requirement`.
"""

from boxsnake.requirements.values import CondaRequirement, IndexOptions, PipRequirement, Requirements

__all__ = ["CondaRequirement", "IndexOptions", "PipRequirement", "Requirements"]
