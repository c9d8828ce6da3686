"""The program: `boxsnake`, and `python -m boxsnake`."""

import gc
import signal

# Who interrupts what is only being imported wants an end and no traceback. `boxsnake.cli` listens itself later.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Importing makes many objects that all stay: looking through them for garbage finds none, and takes its time. What
# others import, such as the fixture for pytest, leaves their collector as it is.
gc.set_threshold(200_000, *gc.get_threshold()[1:])

from boxsnake.cli import main  # noqa: E402 - nearly all that is imported

__all__ = ["main"]

if __name__ == "__main__":
    main()
