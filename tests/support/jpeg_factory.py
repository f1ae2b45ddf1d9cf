"""JPEGs with segments and tails of any kind, and XMP packets, for the tests; made by struct and Pillow."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"


def code(pixels: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return buffer.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def insert(coded: bytes, *segments: tuple[int, bytes]) -> bytes:
    """Segments behind the SOI."""
    return coded[:2] + b"".join(segment(*each) for each in segments) + coded[2:]


def packet(body: str = "", attributes: str = "") -> bytes:
    """An XMP packet of one Description."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<r:Description r:about="" {attributes}>{body}</r:Description></r:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def with_packet(coded: bytes, content: bytes) -> bytes:
    return insert(coded, (0xE1, XMP_PREFIX + content))
