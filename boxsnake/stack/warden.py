"""The warden of a stack in the foreground: a process of its own, which removes what a killed one has left.

Its standard input is a pipe that nobody writes to, and whose other end closes with the process that it watches,
however that ends. It lives in a session of its own, where no Ctrl-C reaches it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from boxsnake.engine import Engine, connect
from boxsnake.engine.owner import RUN_LABEL
from boxsnake.errors import BoxsnakeError

_LAST_SECONDS = 60.0


@contextlib.contextmanager
def watched(engine: Engine) -> Iterator[None]:
    """Have everything of the engine's run removed when this process is over, though it be killed within the block."""
    command = [sys.executable, "-m", __name__, engine.run]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    ) as warden:
        try:
            yield
        finally:
            if warden.stdin:
                warden.stdin.close()
            # It finds nothing where all was removed; else it is not to be waited for longer than this.
            with contextlib.suppress(subprocess.TimeoutExpired):
                warden.wait(_LAST_SECONDS)


def main(run: str) -> int:
    """Wait until standard input ends, then remove the run's containers and networks."""
    sys.stdin.buffer.read()
    with contextlib.suppress(BoxsnakeError):
        engine = connect()
        engine.remove_labelled(RUN_LABEL, run)
        engine.reap()
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
