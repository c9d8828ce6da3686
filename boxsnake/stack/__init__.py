"""Stacks: an application's own artifact and the services that it talks to, together in a network of their own.

What is started, the manifest says (`plan`). A stack that runs in the foreground goes with its process, however that
ends: a warden, which is told by a closed pipe, removes what a killed one has left. One that was brought up stays until
it is brought down.
"""
