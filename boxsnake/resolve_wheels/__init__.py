"""The wheel half: requirements, a target and its conda half in, wheels by digest out. Resolved by uv.

The closure is whole: the distributions that conda brings are in it as wheels of the same versions, since boxes without
conda need them.

Nothing is imported here: most commands want to know the index and no more.
"""
