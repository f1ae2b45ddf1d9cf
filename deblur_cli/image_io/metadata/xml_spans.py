"""Where each element and attribute of an XML document lies in its bytes, so that an edit touches nothing else.

Takes time in proportion to the document, whatever is in it. Knows no vocabulary.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from deblur_cli.image_io.limits import MAX_ELEMENTS, MAX_PACKET

Edit = tuple[int, int, bytes]  # from, to, and what stands there instead

_MAX_NESTING = 500
_TAG_NAME = re.compile(rb"<[^\s/>]++")
_ATTRIBUTE = re.compile(rb"\s++([^\s=/>]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_TAG_END = re.compile(rb"\s*+(/?)>")


@dataclass(frozen=True, slots=True)
class Value:
    """The text of an attribute or of an element without children, and where it lies."""

    text: str
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Element:
    """One element; names are `namespace}local`.

    Attributes:
        start, inside: of its start tag and behind that.
        close, end: of its end tag and behind that; both are `inside` for an element that closes itself.
        wholes: attribute -> where it lies with the blank before it.
        declared: the namespace declarations of its start tag, as bytes.
    """

    name: str
    parent: "Element | None"
    start: int
    inside: int = 0
    close: int = 0
    end: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    wholes: dict[str, tuple[int, int]] = field(default_factory=dict)
    declared: dict[bytes, bytes] = field(default_factory=dict)
    children: list["Element"] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def closes_itself(self) -> bool:
        return self.inside == self.end

    def fields(self) -> dict[str, Value]:
        """Its attributes and those children that hold nothing but text: RDF writes a structure's fields either way."""
        leaves = {
            child.name: Value("".join(child.parts), child.inside, child.close)
            for child in self.children
            if not child.children and not child.closes_itself
        }
        return leaves | self.values


class Document:
    """A parsed packet: its bytes and the elements in their order."""

    def __init__(self, content: bytes, elements: list[Element]) -> None:
        self.content = content
        self.elements = elements

    def named(self, name: str) -> Iterator[Element]:
        """The elements of a name."""
        return (element for element in self.elements if element.name == name)

    def edit(self, edits: Iterable[Edit]) -> bytes:
        """The bytes with pieces replaced; of pieces that overlap the one that begins first, and is longer, counts."""
        parts, at = [], 0
        for start, stop, new in sorted(edits, key=lambda piece: (piece[0], -piece[1])):
            if start >= at:
                parts += [self.content[at:start], new]
                at = stop
        return b"".join([*parts, self.content[at:]])


class _NotUnderstood(Exception):
    """The document is no XML in UTF-8, or asks for too much."""


def parse(content: bytes | None) -> Document | None:
    """The document; None when there is none, or it is malformed, too large or has a DOCTYPE, which could be a bomb."""
    if not content or len(content) > MAX_PACKET:
        return None
    base = len(content) - len(content.lstrip(b"\0 \t\r\n"))
    base += 3 * content.startswith(b"\xef\xbb\xbf", base)
    try:
        return Document(content, _Reader(content, base).read())
    except (_NotUnderstood, expat.ExpatError, ValueError):
        return None


class _Reader:
    def __init__(self, content: bytes, base: int) -> None:
        self.content, self.base = content, base
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.left = MAX_ELEMENTS
        self.parser = expat.ParserCreate("UTF-8", "}")
        self.parser.buffer_text = True
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add_text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def read(self) -> list[Element]:
        self.parser.Parse(self.content[self.base :].rstrip(b"\0 \t\r\n"), True)
        return self.elements

    def _refuse(self, *_: object) -> None:
        raise _NotUnderstood

    def _start(self, name: str, attributes: list[str]) -> None:
        self.left -= 1 + len(attributes) // 2
        if self.left < 0 or len(self.open) >= _MAX_NESTING:
            raise _NotUnderstood
        parent = self.open[-1] if self.open else None
        element = Element(name, parent, self.base + self.parser.CurrentByteIndex)
        self._locate(element, iter(zip(attributes[::2], attributes[1::2], strict=True)))
        if parent:
            parent.children.append(element)
        self.elements.append(element)
        self.open.append(element)

    def _locate(self, element: Element, attributes: Iterator[tuple[str, str]]) -> None:
        """Find the attributes in the start tag's bytes; expat tells them in the same order, but not where."""
        found = _TAG_NAME.match(self.content, element.start)
        while found and (attribute := _ATTRIBUTE.match(self.content, found.end())):
            found = attribute
            if attribute[1] == b"xmlns" or attribute[1].startswith(b"xmlns:"):
                element.declared[attribute[1]] = attribute[2] if attribute[3] is None else attribute[3]
                continue
            name, text = next(attributes, ("", ""))
            start, stop = attribute.span(2) if attribute[3] is None else attribute.span(3)
            element.values[name] = Value(text, start, stop)
            element.wholes[name] = attribute.span()
        closing = _TAG_END.match(self.content, found.end()) if found else None
        if closing is None:
            raise _NotUnderstood
        element.inside = closing.end()
        element.close = element.end = element.inside if closing[1] else 0

    def _end(self, name: str) -> None:
        element = self.open.pop()
        if not element.end:
            element.close = self.base + self.parser.CurrentByteIndex
            element.end = self.content.index(b">", element.close) + 1

    def _add_text(self, text: str) -> None:
        self.open[-1].parts.append(text)
