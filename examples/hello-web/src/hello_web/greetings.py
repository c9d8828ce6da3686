"""The greetings: a table in SQLite, filled from the package's own data."""

from __future__ import annotations

import csv
import sqlite3
from functools import cache
from importlib.resources import files

SQLITE_VERSION = sqlite3.sqlite_version


@cache
def _table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("create table greetings (language text primary key, greeting text not null)")
    text = (files("hello_web") / "greetings.csv").read_text("utf-8")
    connection.executemany("insert into greetings values (:language, :greeting)", csv.DictReader(text.splitlines()))
    return connection


def languages() -> list[str]:
    """The languages that there are greetings in."""
    return [row[0] for row in _table().execute("select language from greetings order by language")]


def greeting(language: str) -> str:
    """The greeting in a language; KeyError where there is none."""
    row = _table().execute("select greeting from greetings where language = ?", [language]).fetchone()
    if row is None:
        raise KeyError(language)
    return str(row[0])
