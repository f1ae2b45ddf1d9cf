"""The XMP packet as bytes: the tool's own stamp, the orientation, the extended packet of a JPEG.

Every change is an insertion or a replacement of our own words; all other bytes of a packet stay. A packet
that is not well-formed XML is never touched. Knows no container.

Source: ISO 16684-1:2019 (XMP part 1), Adobe XMP Specification Part 3, §1.1.3 (extended XMP in JPEG).
"""

import hashlib
import re
from collections.abc import Callable

from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.metadata import xml_spans
from deblur_cli.image_io.metadata.xml_spans import Document, Edit, Element

PREFIX = b"http://ns.adobe.com/xap/1.0/\0"  # of the segment of a JPEG that holds a packet
NAMESPACE = "https://deblur-cli.dev/ns/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DESCRIPTION = f"{RDF}}}Description"
TIFF = "http://ns.adobe.com/tiff/1.0/"
_ABOUT = f"{RDF}}}about"
_NOTE = "http://ns.adobe.com/xmp/note/"
_PROPERTY = f"{NAMESPACE}}}recipe"
_EXTENDED = f"{_NOTE}}}HasExtendedXMP"
_UNSAFE = re.compile(r"[^\t\n\r\x20-\x5b\x5d-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPED = re.compile(r"\\(\\|u\{([0-9a-f]{1,6})\})")
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in '&<>"\t\n\r'}
_OPENING = (
    f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
).encode()
_EMPTY_PACKET = _OPENING + b'</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'


def find_stamp(packet: bytes | None) -> str | None:
    """The recipe in a packet; None when there is none or the packet cannot be parsed."""
    document = xml_spans.parse(packet) if packet and NAMESPACE.encode() in packet else None
    text = _find(document, _PROPERTY) if document else None
    return None if text is None else _ESCAPED.sub(_unescape, text)


def merge_stamp(packet: bytes | None, recipe: str) -> bytes:
    r"""The packet with `deblur:recipe` set to `recipe`: a new packet when there is none.

    An earlier recipe is replaced. A malformed packet comes back untouched and without the stamp: the user's
    bytes are worth more. Any string survives: what XML cannot hold is written as `\u{hex}`, a backslash as
    `\\`.
    """
    bare = erase_stamp(packet) or _EMPTY_PACKET
    document = xml_spans.parse(bare)
    if document is None:
        return bare
    merged = _insert(document, _describe(recipe, document))
    return merged if find_stamp(merged) == recipe else (packet or merged)


def erase_stamp(packet: bytes | None) -> bytes | None:
    """The packet without `deblur:recipe`, whoever wrote it last; None for a packet that held nothing else."""
    ours = packet and NAMESPACE.encode() in packet
    bare = erase(packet, lambda name: name == _PROPERTY) if ours else packet
    return None if bare == _EMPTY_PACKET else bare


def erase(packet: bytes | None, is_doomed: Callable[[str], bool]) -> bytes | None:
    """The packet without the properties of some names, and without Descriptions that held nothing else."""
    document = xml_spans.parse(packet)
    if document is None:
        return packet
    edits: list[Edit] = []
    for element in document.elements:
        doomed = [name for name in element.values if is_doomed(name)]
        gone = [child for child in element.children if is_doomed(child.name)]
        rest = set(element.values) - {*doomed, _ABOUT}
        if element.name == DESCRIPTION and (doomed or gone) and not rest and len(gone) == len(element.children):
            edits.append((element.start, element.end, b""))
        edits += [(*element.wholes[name], b"") for name in doomed]
        edits += [(child.start, child.end, b"") for child in gone]
    return document.edit(edits)


def settle_orientation(packet: bytes | None) -> bytes | None:
    """The packet with `tiff:Orientation` set to 1 in place, where it has one of 1-8."""
    document = xml_spans.parse(packet) if packet and b"Orientation" in packet else None
    if document is None:
        return packet
    values = [value for element in document.elements if (value := element.fields().get(f"{TIFF}}}Orientation"))]
    return document.edit(
        (value.start, value.stop, document.content[value.start : value.stop].replace(value.text.strip().encode(), b"1"))
        for value in values
        if value.text.strip() in set("12345678")
    )


def trim_padding(packet: bytes, room: int) -> bytes:
    """The packet with as much less of the blank before its end as makes it fit into `room` bytes.

    The blank is there for what is inserted later; a packet that is still too long comes back without any.
    """
    end = packet.rfind(b"<?xpacket end")
    if len(packet) <= room or end < 0:
        return packet
    body = packet[:end].rstrip(b" \t\r\n")
    blank = packet[len(body) : end]
    return body + blank[len(packet) - room :] + packet[end:]


def join_extended(packet: bytes, extended: bytes) -> bytes:
    """One packet out of a JPEG's two, for formats without the 64 KB limit.

    Raises:
        BrokenPhotoError: the two cannot be joined without rewriting them.
    """
    first, second = xml_spans.parse(erase(packet, lambda name: name == _EXTENDED)), xml_spans.parse(extended)
    body = _find_body(second)
    if second is None or body is None:
        raise BrokenPhotoError("its extended XMP is damaged; choose --format jpeg, which carries it as it is")
    joined = _insert(first, second.content[body.inside : body.close]) if first else packet
    if first is None or xml_spans.parse(joined) is None:
        raise BrokenPhotoError(
            "its extended XMP does not fit one packet; choose --format jpeg, which carries it as it is"
        )
    return joined


def split_extended(packet: bytes, room: int) -> tuple[bytes, bytes]:
    """The reverse: the longest properties move out until what stays fits into `room` bytes.

    Raises:
        BrokenPhotoError: the packet cannot be parsed, or no property can be moved.
    """
    document = xml_spans.parse(packet)
    if document is None or _find_body(document) is None:
        raise BrokenPhotoError("its XMP is damaged and over JPEG's limit of 64 KB; choose --format png or tiff")
    moved, excess = [], len(trim_padding(packet, 0)) + 200 - room  # 200 for the note that names the other packet
    for size, owner, span in sorted(_movable(document), key=lambda piece: -piece[0]):
        if excess <= 0:
            break
        moved.append((owner, span))
        excess -= size
    if excess > 0:
        raise BrokenPhotoError("its XMP is over JPEG's limit of 64 KB; choose --format png or tiff")
    rows = b"".join(_wrap(document, owner, span) for owner, span in moved)
    extended = _OPENING[_OPENING.index(b"<x:") :] + rows + b"</rdf:RDF></x:xmpmeta>"
    rest = xml_spans.parse(trim_padding(document.edit((*span, b"") for _, span in moved), 0))
    guid = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    if rest is None or xml_spans.parse(extended) is None:
        raise BrokenPhotoError("its XMP is over JPEG's limit of 64 KB; choose --format png or tiff")
    return _insert(rest, _description(rest, f'xmlns:xmpNote="{_NOTE}" xmpNote:HasExtendedXMP="{guid}"')), extended


def find_extended_guid(packet: bytes | None) -> bytes | None:
    """The 32 hex digits with which a JPEG's packet names its extended packet."""
    if not packet or b"HasExtendedXMP" not in packet:
        return None
    found = re.search(rb"HasExtendedXMP\s{0,9}(?:=\s{0,9}[\"']|>)\s{0,9}([0-9A-Fa-f]{32})", packet)
    return found.group(1) if found else None


def _find(document: Document, name: str) -> str | None:
    for element in document.elements:
        value = element.fields().get(name)
        if value is not None:
            return value.text
    return None


def _movable(document: Document) -> list[tuple[int, Element, tuple[int, int]]]:
    """(size, its Description, where it lies) of each property of the packet that is long enough to matter."""
    found = []
    for owner in document.named(DESCRIPTION):
        if owner.parent is None or owner.parent.name != f"{RDF}}}RDF":
            continue
        spans = [span for name, span in owner.wholes.items() if not name.startswith(RDF) and name != _PROPERTY]
        spans += [(child.start, child.end) for child in owner.children]
        found += [(stop - start, owner, (start, stop)) for start, stop in spans if stop - start > 200]
    return found


def _wrap(document: Document, owner: Element, span: tuple[int, int]) -> bytes:
    """A property of a Description as a Description of its own, with every prefix that may occur in it."""
    prefixes: dict[bytes, bytes] = {}
    above: Element | None = owner
    while above:
        prefixes = above.declared | prefixes
        above = above.parent
    prefixes[b"xmlns:rdf"] = prefixes.get(b"xmlns:rdf", RDF.encode())
    head = (
        b"<rdf:Description rdf:about="
        + _subject(document)
        + b"".join(b" " + name + b'="' + value + b'"' for name, value in prefixes.items())
    )
    piece = document.content[slice(*span)]
    return head + (piece + b"/>" if piece[:1] != b"<" else b">" + piece + b"</rdf:Description>")


def _subject(document: Document) -> bytes:
    """What the packet is about, in its quotes: readers refuse two subjects."""
    for element in document.elements:
        about = next((name for name in element.values if name in (_ABOUT, "about")), None)
        if about is not None:
            value = element.values[about]
            return document.content[value.start - 1 : value.stop + 1]
    return b'""'


def _describe(recipe: str, document: Document) -> bytes:
    value = _UNSAFE.sub(_escape, recipe).translate(_ENTITIES)
    return _description(document, f'xmlns:deblur="{NAMESPACE}" deblur:recipe="{value}"')


def _description(document: Document, properties: str) -> bytes:
    head = b"<rdf:Description rdf:about=" + _subject(document) + f' xmlns:rdf="{RDF}" '.encode()
    return head + properties.encode() + b"/>"


def _find_body(document: Document | None) -> Element | None:
    """The last RDF element: everything is said in it."""
    bodies = list(document.named(f"{RDF}}}RDF")) if document else []
    return bodies[-1] if bodies else None


def _insert(document: Document, description: bytes) -> bytes:
    """Put a Description before the closing RDF tag, or into an RDF element that closes itself."""
    body = _find_body(document)
    if body is None:
        return document.content
    if not body.closes_itself:
        return document.edit([(body.close, body.close, description)])
    slash = document.content.rindex(b"/", body.start, body.inside)
    name = document.content[body.start + 1 : body.inside].split(None, 1)[0].rstrip(b"/>")
    return document.edit([(slash, body.inside, b">" + description + b"</" + name + b">")])


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return "\\\\" if character == "\\" else f"\\u{{{ord(character):x}}}"


def _unescape(found: re.Match[str]) -> str:
    if found.group(2) is None:
        return "\\"
    code = int(found.group(2), 16)
    return chr(code) if code < 0x110000 else found.group()
