"""Where distributions come from: the indexes of requirement files and of the user's configuration, for uv.

URLs may hold credentials: they go by environment variables, never by a command line.
"""

from __future__ import annotations

import os
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from boxsnake.lock.locations import file_url
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxsnake.credentials import Credentials
    from boxsnake.requirements import IndexOptions
    from boxsnake.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Index:
    """The indexes, in uv's words. The first one that has a name serves it: no other is asked for that name."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """URLs; folders are file: URLs."""
    no_index: bool = False
    pre: bool = False

    def variables(self, *more_links: str) -> dict[str, str]:
        """The environment variables for uv, with more places for find-links."""
        links = [*self.find_links, *more_links]
        # uv separates them by commas.
        found = {"UV_FIND_LINKS": ",".join(link.replace(",", "%2C") for link in links)} if links else {}
        return {**self.environment, **found}

    @property
    def options(self) -> list[str]:
        """The options that go with them."""
        return ["--no-index"] * self.no_index + ["--prerelease", "allow"] * self.pre


def index_of(settings: Settings, options: IndexOptions, credentials: Credentials, root: Path) -> Index:
    """The indexes that requirement files name; where they name none, those of the settings."""
    default = options.index_url or settings.index_url
    extra = (*options.extra_index_urls, *settings.extra_index_urls)
    environment = {}
    if default is not None:
        environment["UV_DEFAULT_INDEX"] = _opened(default, credentials)
    if extra:
        environment["UV_INDEX"] = " ".join(_opened(url, credentials) for url in dict.fromkeys(extra))
    return Index(
        environment=environment,
        find_links=tuple(_location(link, credentials, root) for link in options.find_links),
        no_index=options.no_index,
        pre=options.pre,
    )


def _location(link: str, credentials: Credentials, root: Path) -> str:
    if "://" in link:
        return _opened(link, credentials)
    return file_url(os.path.abspath(root / link))  # noqa: PTH100 - links stay as they are


def _opened(url: str, credentials: Credentials) -> str:
    """The URL with the login that the settings have for it, unless it has one of its own."""
    parts = urlsplit(url)
    login = None if "@" in parts.netloc or not parts.netloc else credentials.login(url)
    if login is None:
        return url
    netloc = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@{parts.netloc}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))
