"""Documents as YAML that every reader takes for the same: those of YAML 1.1 and of 1.2 guess types differently."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

# Texts that no reader of any version takes for anything else.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


class _Dumper(yaml.SafeDumper):
    """Quotes every text that is not a plain word, and repeats rather than refers."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    quoted = "|" if "\n" in text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else quoted)


_Dumper.add_representer(str, _text)


def yaml_text(documents: Sequence[dict[str, Any]], *, about: str) -> str:
    """The documents in their order, keys in the order that they were given in; `about` is a line of comment."""
    body: str = yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=1_000_000,
        explicit_start=len(documents) > 1,
    )
    return f"# {about}\n{body}"
