"""End-to-end tests of the box that is shipped, with the Redis of `boxsnake.toml` beside it: `pytest`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from boxsnake.pytest_plugin.box import RunningBox


def get(url: str, **headers: str) -> str:
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return str(answer.read().decode())


def visits(box: RunningBox) -> Any:
    return json.loads(get(f"{box.url}/visits"))["visits"]


def test_a_visitor_is_greeted_in_their_language(boxsnake: RunningBox) -> None:
    assert "Bonjour" in get(boxsnake.url, **{"Accept-Language": "fr"})


def test_visits_are_counted_in_redis(boxsnake: RunningBox) -> None:
    before = visits(boxsnake)
    assert visits(boxsnake) == before + 1
    kept = boxsnake.services["redis"].exec(["redis-cli", "get", "visits"], check=True)
    assert kept.stdout.strip() == str(before + 1)


def test_the_count_outlives_the_application(boxsnake: RunningBox) -> None:
    before = visits(boxsnake)
    boxsnake.restart()
    assert visits(boxsnake) == before + 1


def test_it_runs_as_an_ordinary_user(boxsnake: RunningBox) -> None:
    assert boxsnake.exec(["python", "-c", "import os; print(os.getuid())"], check=True).stdout != "0\n"
    assert "Listening at" in boxsnake.logs()
