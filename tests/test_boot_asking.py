"""What is wrong with the answers of an application, told in one line each."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

import pytest

from boxsnake.boot.asking import attempt, fault, is_final
from boxsnake.boot_recipe import Check
from boxsnake.stack.running import _answer

PAGE: dict[str, Any] = {
    "kind": "http",
    "path": "/",
    "port": 1,
    "status": 200,
    "expect": None,
    "matches": None,
    "values": [],
}
DOCUMENT = json.dumps({"state": "up", "count": 1, "parts": [{"name": "db", "well": True}]})


@pytest.mark.parametrize(
    ("request_", "status", "body", "told"),
    [
        ({}, 200, "", ""),
        ({}, 404, "", "answered 404, not 200"),
        ({"expect": "a"}, 200, "bab", ""),
        ({"expect": "a"}, 200, "bbb", "without 'a'"),
        ({"matches": "^a$"}, 200, "b\na\nb", ""),
        ({"matches": "^a$"}, 200, "ba", "nothing that matches '^a$'"),
        ({"values": [["state", "up"], ["parts.0.name", "db"], ["parts.0.well", True]]}, 200, DOCUMENT, ""),
        ({"values": [["state", "down"]]}, 200, DOCUMENT, 'state of its JSON is "up", not "down"'),
        ({"values": [["count", True]]}, 200, DOCUMENT, "count of its JSON is 1, not true"),
        ({"values": [["parts.1.name", "db"]]}, 200, DOCUMENT, "its JSON has no parts.1.name"),
        ({"values": [["state.of.affairs", "up"]]}, 200, DOCUMENT, "its JSON has no state.of.affairs"),
        ({"values": [["state", "up"]]}, 200, "<html>", "but not with JSON"),
    ],
)
def test_answers_are_judged(request_: dict[str, Any], status: int, body: str, told: str) -> None:
    found = fault({**PAGE, **request_}, status, body)
    assert (found != "", told in found) == (told != "", True)


def test_a_line_of_the_log_is_waited_for() -> None:
    request = {"kind": "log", "log": "^ready$", "status": 0}
    status, _, problem = attempt(request, b"starting\n", 1)
    assert (status, is_final(request, status)) == (None, False)
    assert "'^ready$'" in problem
    status, _, _ = attempt(request, b"starting\nready\n", 1)
    assert is_final(request, status)


@pytest.mark.parametrize(("status", "final"), [(200, True), (404, True), (503, False), (None, False)])
def test_a_server_that_says_not_yet_is_asked_again(status: int | None, final: bool) -> None:
    assert is_final(PAGE, status) is final


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(DOCUMENT.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_stack_waits_for_what_a_boot_wants() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = [
            _answer(Check(name="c", http="/", port=1, values=(("state", state),)), server.server_port)
            for state in ("up", "down")
        ]
        server.shutdown()
    assert found == ["", '/: answered 200, but state of its JSON is "up", not "down"']
