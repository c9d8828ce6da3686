"""The sandbox: containers without an engine, made of namespaces over an image's files.

A sandbox has processes, mounts, users, names and a network of its own, in which nobody answers but itself. Its root is
a folder into which an image's layers are unpacked from within, so that what they name leads nowhere else; its users are
numbers that are nobody's on this machine. What it is told to do goes over a socket. When that is closed, by us or by
our death, the first process of the sandbox ends all others and removes its files; the mounts go with it.

It takes no program of others but newuidmap and newgidmap, and these for ordinary users alone.
"""
