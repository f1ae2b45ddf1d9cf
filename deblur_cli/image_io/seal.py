"""A file that says of itself whether it is still as it was written. Knows bytes, no photos.

The seal is the sha256 of the whole file in which its own 64 digits are zeros. It lies in the recipe that is stamped
into a result, and is broken by whatever changes a byte: an editor, a rating, an entry of another program.
"""

import hashlib
import re
import zlib

BLANK = "0" * 64

# As JSON inside XML: the writer of the packet chooses how a quotation mark is spelled.
_QUOTE = rb"(?:\"|&#34;|&#x22;|&quot;)"
_PLACE = re.compile(rb"result_sha256" + _QUOTE + rb":" + _QUOTE + rb"(0{64})" + _QUOTE)
_PNG = b"\x89PNG\r\n\x1a\n"
_PACKET, _EXTENDED = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


def seal(content: bytes) -> bytes:
    """The content with its blank seal filled in; unchanged where there is no blank, or not exactly one."""
    places = [found.start(1) for found in _PLACE.finditer(content)]
    if len(places) != 1 or _is_hashed_otherwise(content, places[0]):
        return content
    digest = hashlib.sha256(content).hexdigest().encode()
    return _put(content, places[0], digest)


def is_unbroken(content: bytes, digest: str) -> bool:
    """Whether the content is as `seal` left it; `digest` is the seal that the file names."""
    at = content.find(digest.encode())
    return at >= 0 and hashlib.sha256(_put(content, at, BLANK.encode())).hexdigest() == digest


def _put(content: bytes, at: int, digits: bytes) -> bytes:
    changed = bytearray(content)
    changed[at : at + len(digits)] = digits
    if content.startswith(_PNG):
        _mend_checksum(changed, at)
    return bytes(changed)


def _mend_checksum(png: bytearray, at: int) -> None:
    """Set the CRC of the chunk around `at` (PNG specification, third edition, section 5.3)."""
    start = len(_PNG)
    while start + 12 <= len(png):
        length = int.from_bytes(png[start : start + 4])
        end = start + 8 + length
        if start <= at < end:
            png[end : end + 4] = zlib.crc32(png[start + 4 : end]).to_bytes(4)
            return
        start = end + 4


def _is_hashed_otherwise(content: bytes, at: int) -> bool:
    """Whether the place lies in the extended packet of a JPEG, which is named by its own MD5."""
    return content.rfind(_EXTENDED, 0, at) > content.rfind(_PACKET, 0, at)
