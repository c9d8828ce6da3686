"""`python -m boxsnake`."""

from boxsnake.cli import main

main()
