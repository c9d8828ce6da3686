"""Text for people: what is refused in text from outside, and how it is shown without doing anything to a terminal."""

from __future__ import annotations

import re
import unicodedata

_SEPARATORS_AND_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They make a terminal or a page show text in another order than it has (Unicode Standard Annex 9).
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_harmful(character: str) -> bool:
    """Whether a character is none that is read: a control, a line separator, a surrogate, a change of direction."""
    return unicodedata.category(character) in _SEPARATORS_AND_CONTROLS or character in _BIDIRECTIONAL


def check_plain(text: str, *, allowed: str = "") -> str:
    """The text itself. Errors: ValueError where it has a control character that is not `allowed`."""
    for character in text:
        if is_harmful(character) and character not in allowed:
            raise ValueError(f"the control character {escaped(character)} is not allowed")
    return text


def escaped(text: str) -> str:
    r"""The text on one line, its harmful characters as escapes such as "\n" or "\x1b"."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if is_harmful(character) else character for character in text
    )


_PERHAPS_HARMFUL = re.compile("[^\n\t\x20-\x7e]")


def legible(text: str) -> str:
    """The text with its harmful characters as escapes, but for the ends of its lines and tabs."""
    return _PERHAPS_HARMFUL.sub(lambda match: escaped(match.group()), text.replace("\r\n", "\n"))


def counted(number: int, noun: str) -> str:
    """A number of things: "1 wheel", "2 wheels"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def human_size(size: int) -> str:
    """A size in bytes as people read it, in powers of 1000."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def shortened(text: str, limit: int = 80) -> str:
    """The text, cut with an ellipsis where it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
