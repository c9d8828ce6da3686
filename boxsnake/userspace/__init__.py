"""Userspace images: an environment as one read-only file system behind a shell script that starts it.

`squashfs` and `unfold` travel in the images and run on their hosts; the rest makes the images.
"""
