"""Elements of a page. A page is a tree that is written at its end: so there is no text that is not escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import TypeAlias

from boxsnake.plain_text import legible

Child: TypeAlias = "ET.Element | str | Iterable[Child] | None"


def element(tag: str, *children: Child, **attributes: str | None) -> ET.Element:
    """An element with its contents; attributes that are None are left out, `class_` is "class", `data_key` "data-key".

    Texts are shown with their harmful characters as escapes: HTML cannot write most of these, and the others change
    the order of what is read.
    """
    made = ET.Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), legible(value))
    _add(made, children)
    return made


def _add(parent: ET.Element, children: Iterable[Child]) -> None:
    for child in children:
        if isinstance(child, ET.Element):
            parent.append(child)
        elif isinstance(child, str):
            _add_text(parent, legible(child))
        elif child is not None:
            _add(parent, child)


def _add_text(parent: ET.Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def constant(tag: str, text: str) -> ET.Element:
    """A style or a script: a text of our own, which is written as it is."""
    made = ET.Element(tag)
    made.text = text
    return made


def written(root: ET.Element) -> str:
    """The whole page, as HTML."""
    return f"<!DOCTYPE html>\n{ET.tostring(root, encoding='unicode', method='html')}\n"
