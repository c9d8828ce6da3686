"""How the boot harness asks a started application: a page, a port, a line of its log; and what is wrong with an answer.

Handed over as text like probe.py, to the box's own interpreter: the standard library alone, Python 3.9 or later. A
request is a mapping of its `kind` ("http", "tcp" or "log"), what it asks for, and what the answer must be.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any

_KEPT_BODY = 1 << 20
# Answers of a server, or of a proxy before it, that say "not yet".
_NOT_YET = (502, 503, 504)
_THERE = 0
"""The status of what has none: a port that is open, a line that was written."""

Request = dict[str, Any]


def request_of(check: Any) -> Request:
    """What a check of the manifest (`boxsnake.boot_recipe.Check`) asks of the application, as such a mapping."""
    kind = "http" if check.http is not None else "tcp" if check.tcp is not None else "log"
    return {
        "kind": kind,
        "path": check.http,
        "port": check.port if kind == "http" else check.tcp,
        "status": check.status if kind == "http" else 0,
        "expect": check.expect,
        "matches": check.matches,
        "values": check.values,
        "requests": check.requests,
        "log": check.log,
        "timeout": check.timeout,
    }


def attempt(request: Request, said: bytes, seconds: float) -> tuple[int | None, str, str]:
    """Ask once: the status (None: no answer yet), the page's text, and why there is no answer.

    `said` is what the application has written so far; `seconds` is how long it may take.
    """
    if request["kind"] == "log":
        is_written = re.search(request["log"], said.decode("utf-8", "replace"), re.MULTILINE)
        return (_THERE, "", "") if is_written else (None, "", f"it has not written what matches {request['log']!r}")
    try:
        return _page(request, seconds) if request["kind"] == "http" else _port(request, seconds)
    except ConnectionRefusedError:
        return None, "", "nothing listens there"
    except (OSError, http.client.HTTPException) as error:
        return None, "", f"no answer: {str(error) or type(error).__name__}"


def is_final(request: Request, status: int | None) -> bool:
    """Whether it is of no use to ask once more."""
    return status is not None and (status == request["status"] or status not in _NOT_YET)


def fault(request: Request, status: int, body: str) -> str:
    """What is wrong with an answer; "" if nothing is."""
    if request["kind"] != "http":
        return ""
    if status != request["status"]:
        return f"answered {status}, not {request['status']}"
    if request["expect"] is not None and request["expect"] not in body:
        return f"answered {status}, but without {request['expect']!r}"
    if request["matches"] is not None and not re.search(request["matches"], body, re.MULTILINE):
        return f"answered {status}, but with nothing that matches {request['matches']!r}"
    return _wrong_value(request["values"], status, body) if request["values"] else ""


def _wrong_value(values: list[list[Any]], status: int, body: str) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return f"answered {status}, but not with JSON"
    for path, wanted in values:
        found = document
        for part in path.split("."):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                return f"answered {status}, but its JSON has no {path}"
        # True is 1 for Python, but not for JSON.
        if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
            return f"answered {status}, but {path} of its JSON is {json.dumps(found)[:200]}, not {json.dumps(wanted)}"
    return ""


def _page(request: Request, seconds: float) -> tuple[int | None, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", request["port"], timeout=seconds)
    try:
        connection.request("GET", request["path"], headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(_KEPT_BODY).decode("utf-8", "replace"), ""
    finally:
        connection.close()


def _port(request: Request, seconds: float) -> tuple[int | None, str, str]:
    socket.create_connection(("127.0.0.1", request["port"]), timeout=seconds).close()
    return _THERE, "", ""
