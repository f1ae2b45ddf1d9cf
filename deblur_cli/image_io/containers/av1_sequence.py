"""The sequence header of a coded AV1 picture, down to the one bit that says whether black is 0. Decodes nothing.

Source: AV1 Bitstream & Decoding Process Specification §5.3 (OBUs), §5.5 (sequence header).
"""

_SEQUENCE_HEADER = 1
_UNSPECIFIED, _SRGB_PRIMARIES, _SRGB_CURVE, _IDENTITY = 2, 1, 13, 0


def is_full_range(block: bytes) -> bool:
    """Whether the first sequence header in these OBUs says full range; true where there is none."""
    at = 0
    while at + 2 <= len(block):
        kind, extended, sized = block[at] >> 3 & 15, block[at] >> 2 & 1, block[at] >> 1 & 1
        at += 1 + extended
        size, at = _read_leb128(block, at) if sized else (len(block) - at, at)
        if kind == _SEQUENCE_HEADER:
            return _parse_range(_Bits(block[at : at + size]))
        at += size
    return True


def _read_leb128(block: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for place, byte in enumerate(block[at : at + 8]):
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    return len(block), len(block)


class _Bits:
    def __init__(self, block: bytes) -> None:
        self.number, self.left = int.from_bytes(block, "big"), 8 * len(block)

    def read(self, count: int) -> int:
        """The next bits as a number; zeros beyond the end."""
        self.left -= count
        found = self.number >> self.left if self.left >= 0 else 0
        return found & (1 << count) - 1

    def flag(self) -> bool:
        return self.read(1) == 1


def _parse_range(bits: _Bits) -> bool:
    profile = bits.read(3)
    bits.read(1)  # still picture
    reduced = bits.flag()
    if reduced:
        bits.read(5)
    else:
        _skip_timing(bits)
    widths = bits.read(4) + 1, bits.read(4) + 1
    bits.read(sum(widths))
    if not reduced and bits.flag():
        bits.read(7)
    bits.read(3)  # superblocks, filters of intra pictures
    if not reduced:
        _skip_tools(bits)
    bits.read(3)  # superres, cdef, restoration
    return _parse_colour(bits, profile)


def _skip_timing(bits: _Bits) -> None:
    decoder_model, delay = False, 0
    if bits.flag():  # timing info
        bits.read(64)
        if bits.flag():
            zeros = 0
            while zeros < 32 and not bits.flag():
                zeros += 1
            bits.read(zeros)
        decoder_model = bits.flag()
        if decoder_model:
            delay = bits.read(5) + 1
            bits.read(42)
    display_delay = bits.flag()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if decoder_model and bits.flag():
            bits.read(2 * delay + 1)
        if display_delay and bits.flag():
            bits.read(4)


def _skip_tools(bits: _Bits) -> None:
    bits.read(4)
    if order_hint := bits.flag():
        bits.read(2)
    screen_content = 2 if bits.flag() else bits.read(1)
    if screen_content and not bits.flag():
        bits.read(1)
    if order_hint:
        bits.read(3)


def _parse_colour(bits: _Bits, profile: int) -> bool:
    deep = bits.flag()
    if profile == 2 and deep:
        bits.read(1)
    grey = profile != 1 and bits.flag()
    codes = (bits.read(8), bits.read(8), bits.read(8)) if bits.flag() else (_UNSPECIFIED,) * 3
    if not grey and codes == (_SRGB_PRIMARIES, _SRGB_CURVE, _IDENTITY):
        return True
    return bits.flag()
