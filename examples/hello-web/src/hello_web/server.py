"""Serves the application with gunicorn."""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib.metadata import version
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from hello_web import create_app


class Server(BaseApplication):
    """Gunicorn with settings from our own command line instead of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.settings.items():
            # Older versions do not know every setting.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app()


def _heartbeat_folder() -> str:
    """Where workers touch their files: in memory, and not in a root that may be read-only."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108 - gunicorn makes safe names


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="hello-web",
        description="Greets its visitors in their own language.",
        epilog="Arguments may stand in a file, one on each line: hello-web @FILE",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--version", action="version", version=f"hello-web {version('hello-web')}")
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="how many processes serve (default: %(default)s)")
    arguments = parser.parse_args()
    settings = {
        "bind": f"{arguments.host}:{arguments.port}",
        "workers": arguments.workers,
        "proc_name": "hello-web",
        "worker_tmp_dir": _heartbeat_folder(),
        "control_socket_disable": True,
    }
    Server(settings).run()
