"""The XMP packet as bytes: the tool's own stamp, the orientation, the extended packet of a JPEG.

Every change is an insertion or a replacement of our own words; all other bytes of a packet stay. A packet
that is not well-formed XML is never touched. Knows no container.

Source: ISO 16684-1:2019 (XMP part 1), Adobe XMP Specification Part 3, §1.1.3 (extended XMP in JPEG).
"""

import re
from typing import TYPE_CHECKING

from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from xml.etree import ElementTree

PREFIX = b"http://ns.adobe.com/xap/1.0/\0"  # of the segment of a JPEG that holds a packet
NAMESPACE = "https://deblur-cli.dev/ns/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TIFF = b"http://ns.adobe.com/tiff/1.0/"
_NOTE = b"http://ns.adobe.com/xmp/note/"
_PROPERTY = f"{{{NAMESPACE}}}recipe"
_NAME = rb"[A-Za-z_][\w.-]*"
_CLOSE = re.compile(rb"</(?:" + _NAME + rb":)?RDF\s*>")
_OPEN = re.compile(rb"<(?:(" + _NAME + rb"):)?RDF\b[^>]*?(/?)>")
_ABOUT = re.compile(rb"\s(?:" + _NAME + rb":)?about\s*=\s*(\"[^\"<]*\"|'[^'<]*')")
_UNSAFE = re.compile(r"[^\t\n\r\x20-\x5b\x5d-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPED = re.compile(r"\\(\\|u\{([0-9a-f]+)\})")
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in '&<>"\t\n\r'}
_EMPTY_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>\n'
    '<?xpacket end="w"?>'
).encode()


def find_stamp(packet: bytes | None) -> str | None:
    """The recipe in a packet; None when there is none or the packet cannot be parsed."""
    root = _parse(packet)
    if root is None:
        return None
    for element in root.iter():
        text = element.text if element.tag == _PROPERTY else element.get(_PROPERTY)
        if text is not None:
            return _ESCAPED.sub(_unescape, text)
    return None


def merge_stamp(packet: bytes | None, recipe: str) -> bytes:
    r"""The packet with `deblur:recipe` set to `recipe`: a new packet when there is none.

    An earlier recipe is replaced. A malformed packet comes back untouched and without the stamp: the user's
    bytes are worth more. Any string survives: what XML cannot hold is written as `\u{hex}`, a backslash as
    `\\`.
    """
    if packet and _parse(packet) is None:
        return packet
    bare = erase_stamp(packet) or _EMPTY_PACKET
    merged = _insert(bare, _describe(recipe, bare))
    return merged if find_stamp(merged) == recipe else (packet or merged)


def erase_stamp(packet: bytes | None) -> bytes | None:
    """The packet without `deblur:recipe`, whoever wrote it last; None for a packet that held nothing else."""
    if not packet or NAMESPACE.encode() not in packet or _parse(packet) is None:
        return packet
    bare = _own_description().sub(b"", packet)
    for prefix in _find_prefixes(bare, NAMESPACE.encode()):
        name = re.escape(prefix) + b":recipe"
        bare = re.sub(rb"\s+" + name + rb"\s*=\s*(\"[^\"<]*\"|'[^'<]*')", b"", bare)
        bare = re.sub(rb"<" + name + rb"\s*>[^<]*</" + name + rb"\s*>", b"", bare)
    if bare == _EMPTY_PACKET:
        return None
    return bare if _parse(bare) is not None else packet


def settle_orientation(packet: bytes | None) -> bytes | None:
    """The packet with `tiff:Orientation` set to 1 in place, where it has one of 1-8."""
    if not packet:
        return packet
    for prefix in _find_prefixes(packet, _TIFF):
        name = re.escape(prefix) + b":Orientation"
        packet = re.sub(rb"(\s" + name + rb"\s*=\s*[\"']\s*)[1-8](\s*[\"'])", rb"\g<1>1\2", packet)
        packet = re.sub(rb"(<" + name + rb"\s*>\s*)[1-8](\s*</)", rb"\g<1>1\2", packet)
    return packet


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
    opening, closings = _OPEN.search(extended), list(_CLOSE.finditer(extended))
    if opening is None or not closings:
        raise BrokenPhotoError("its extended XMP is damaged; choose --format jpeg, which carries it as it is")
    body = extended[opening.end() : closings[-1].start()]
    for prefix in _find_prefixes(packet, _NOTE):
        name = re.escape(prefix) + b":HasExtendedXMP"
        packet = re.sub(rb"\s+" + name + rb"\s*=\s*(\"[^\"<]*\"|'[^'<]*')", b"", packet)
        packet = re.sub(rb"<" + name + rb"\s*>[^<]*</" + name + rb"\s*>", b"", packet)
    joined = _insert(packet, body)
    if _parse(joined) is None:
        raise BrokenPhotoError(
            "its extended XMP does not fit one packet; choose --format jpeg, which carries it as it is"
        )
    return joined


def find_extended_guid(packet: bytes | None) -> bytes | None:
    """The 32 hex digits with which a JPEG's packet names its extended packet."""
    found = re.search(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})", packet or b"")
    return found.group(1) if found else None


def _parse(packet: bytes | None) -> "ElementTree.Element | None":
    """The packet as a tree; None when absent or malformed. A DOCTYPE is refused: it could be a bomb."""
    if not packet or b"<!DOCTYPE" in packet:
        return None
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(packet.strip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf"))
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def _describe(recipe: str, packet: bytes) -> bytes:
    """Our Description, about the same thing as the packet's others: readers refuse two subjects."""
    about = _ABOUT.search(packet)
    subject = about.group(1) if about else b'""'
    value = _UNSAFE.sub(_escape, recipe).translate(_ENTITIES).encode()
    return (
        b"<rdf:Description rdf:about=" + subject + b' xmlns:rdf="' + _RDF.encode() + b'"'
        b' xmlns:deblur="' + NAMESPACE.encode() + b'" deblur:recipe="' + value + b'"/>'
    )


def _own_description() -> re.Pattern[bytes]:
    return re.compile(
        rb"<rdf:Description rdf:about=(?:\"[^\"<]*\"|'[^'<]*') xmlns:rdf=\"" + re.escape(_RDF.encode()) + rb"\""
        rb" xmlns:deblur=\"" + re.escape(NAMESPACE.encode()) + rb"\" deblur:recipe=(?:\"[^\"<]*\"|'[^'<]*')/>"
    )


def _insert(packet: bytes, description: bytes) -> bytes:
    """Put a Description before the last closing RDF tag, or into an RDF element that closes itself."""
    closings = list(_CLOSE.finditer(packet))
    if closings:
        at = closings[-1].start()
        return packet[:at] + description + packet[at:]
    opening = _OPEN.search(packet)
    if opening is None or not opening.group(2):
        return packet
    prefix = opening.group(1)
    closing = b"</" + (prefix + b":" if prefix else b"") + b"RDF>"
    return packet[: opening.end() - 2] + b">" + description + closing + packet[opening.end() :]


def _find_prefixes(packet: bytes, namespace: bytes) -> set[bytes]:
    return set(re.findall(rb"xmlns:(" + _NAME + rb")\s*=\s*[\"']" + re.escape(namespace) + rb"[\"']", packet))


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return "\\\\" if character == "\\" else f"\\u{{{ord(character):x}}}"


def _unescape(found: re.Match[str]) -> str:
    return "\\" if found.group(2) is None else chr(int(found.group(2), 16))
