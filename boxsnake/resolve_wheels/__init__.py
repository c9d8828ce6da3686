"""The wheel half: requirements, a target and its conda half in, wheels by digest out. Resolved by uv.

The closure is whole: the distributions that conda brings are in it as wheels of the same versions, since boxes without
conda need them.
"""

from boxsnake.resolve_wheels.index import Index, index_of
from boxsnake.resolve_wheels.question import WheelAnswer, WheelQuestion, Workshop
from boxsnake.resolve_wheels.resolve import resolve_wheels

__all__ = ["Index", "WheelAnswer", "WheelQuestion", "Workshop", "index_of", "resolve_wheels"]
