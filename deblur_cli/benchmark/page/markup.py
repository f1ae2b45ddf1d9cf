"""HTML that is escaped by construction: a plain `str` is text, only a `Markup` goes in as it stands."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

VOID = frozenset({"img", "br", "col", "input", "meta", "link"})  # elements without an end tag
JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def to_markup(text: str) -> Markup:
    """The text itself when it is HTML, else its escaped form."""
    return text if isinstance(text, Markup) else Markup(html.escape(text, quote=True))


def join(parts: Iterable[str], between: str = "") -> Markup:
    """The parts one after the other, each escaped unless it is HTML."""
    return Markup(to_markup(between).join(to_markup(part) for part in parts))


def element(name: str, attributes: Mapping[str, str], *children: str) -> Markup:
    """One element, e.g. `element("td", {"class": "number"}, "31.42")`."""
    written = "".join(f' {key}="{html.escape(value, quote=True)}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def hidden_text(text: str) -> Markup:
    """Text for screen readers alone, where the eye has a glyph."""
    return element("span", {"class": "visually-hidden"}, text)


def to_script_json(value: Any) -> Markup:
    """JSON that may stand inside `<script>`: no character of it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in JSON_ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)
