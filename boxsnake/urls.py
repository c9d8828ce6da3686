"""URLs as they may be shown and stored: without credentials, tokens and signatures."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from boxsnake.pattern import pattern

USUAL_PORTS = {"http": 80, "https": 443}
"""The ports of URLs that name none."""

# Anaconda-style channel tokens sit in the path: /t/<token>/channel.
_TOKEN = pattern(r"/t/[^/]+(?=/|$)")
# In free text quotes and brackets end a URL, but those in a password before the host do not.
_URL = pattern(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/@]*@)*[^\s'\"<>)\]]+")


def without_credentials(url: str) -> str:
    """The URL without user, password, channel token and query: what a lock, a log or an artifact may hold.

    The fragment is kept unless it could hold a secret of its own (it never names one in PEP 508 or PEP 440 URLs).
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # such as "http://[user:secret@host": what cannot be read is not shown
        return f"{url.partition('://')[0]}://…"
    if not parts.scheme or not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, _TOKEN.sub("", parts.path), "", parts.fragment))


def redact(text: str) -> str:
    """Free text (a tool's log, an exception) with every URL in it replaced by the one without credentials."""
    return _URL.sub(lambda match: without_credentials(match.group()), text)
