"""The wheel half: requirements, a target and its conda half in, wheels by digest out. Resolved by uv.

The closure is whole: the distributions that conda brings are in it as wheels of the same versions, since boxes without
conda need them.

`boxsnake.resolve_wheels.resolve` does it. It is not imported here, as most commands want no more than the values.
"""

from boxsnake.resolve_wheels.index import Index, index_of
from boxsnake.resolve_wheels.question import WheelAnswer, WheelQuestion, Workshop

__all__ = ["Index", "WheelAnswer", "WheelQuestion", "Workshop", "index_of"]
