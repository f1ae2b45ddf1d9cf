"""What an orientation does to a place in the picture: turned pixels need turned face regions and focus points.

`Turn` is the arithmetic; `turn_packet` applies it to every place and size that an XMP packet names.

Source: CIPA DC-008 §4.6.5 (orientation); MWG Guidelines 2.0 §5.9 (regions); IPTC Photo Metadata 2022 §10 (image
    regions); Microsoft's people tagging schema; ExifTool's tag tables XMP-mwg-rs, XMP-acdsee-rs, XMP-apple-fi, XMP-crs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from deblur_cli.image_io.metadata import xml_spans, xmp
from deblur_cli.image_io.metadata.xml_spans import Document, Edit, Element, Value

_AREAS = ("http://ns.adobe.com/xmp/sType/Area#", "http://ns.adobe.com/xap/1.0/sType/Area#",
          "http://ns.acdsee.com/sType/Area#")  # fmt: skip
_DIMENSIONS = ("http://ns.adobe.com/xap/1.0/sType/Dimensions#", "http://ns.acdsee.com/sType/Dimensions#")
_MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#}Rectangle"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_APPLE = "http://ns.apple.com/faceinfo/1.0/}"
_CROP = "http://ns.adobe.com/camera-raw-settings/1.0/}Crop"
_EXIF = "http://ns.adobe.com/exif/1.0/}"
_TIFF = f"{xmp.TIFF}}}"
_SWAPPED = (
    (f"{_TIFF}ImageWidth", f"{_TIFF}ImageLength"),
    (f"{_TIFF}XResolution", f"{_TIFF}YResolution"),
    (f"{_EXIF}PixelXDimension", f"{_EXIF}PixelYDimension"),
)
_NUMBER = re.compile(r"\s{0,99}[+-]?\d{0,9}(?:\.\d{0,30})?(?:[eE][+-]?\d\d?)?\s{0,99}")
_MIRRORED = (2, 4, 5, 7)
_DEGREES = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}  # clockwise, after the mirror of 2, 4, 5, 7

Size = tuple[Decimal, Decimal]
_WHOLE: Size = (Decimal(1), Decimal(1))


@dataclass(frozen=True, slots=True)
class Turn:
    """Stored pixels become upright ones: the EXIF orientation 1-8 of the stored ones, and their size."""

    orientation: int
    width: int
    height: int

    @property
    def is_quarter(self) -> bool:
        return self.orientation >= 5

    def point(self, x: Decimal, y: Decimal, size: Size = _WHOLE) -> tuple[Decimal, Decimal]:
        """Where a point of a picture of this size goes."""
        (width, height) = size
        if self.is_quarter:
            x, y, width, height = y, x, height, width
        if self.orientation in (3, 4, 7, 8):
            y = height - y
        if self.orientation in (2, 3, 6, 7):
            x = width - x
        return x, y

    def box(self, x: Decimal, y: Decimal, width: Decimal, height: Decimal, size: Size = _WHOLE) -> list[Decimal]:
        """Where a rectangle goes, told by its corner with the least x and y."""
        corners = self.point(x, y, size), self.point(x + width, y + height, size)
        first, second = zip(*corners, strict=True)
        return [min(first), min(second), *((height, width) if self.is_quarter else (width, height))]

    def pixel(self, x: int, y: int) -> tuple[int, int]:
        """Where a pixel goes; places outside of the picture stay outside."""
        at = self.point(Decimal(x), Decimal(y), (Decimal(self.width - 1), Decimal(self.height - 1)))
        return int(at[0]), int(at[1])


def compose(first: int, second: int) -> int:
    """The orientation that does what one and then another does."""
    place = (Decimal(1) / 8, Decimal(1) / 4)
    wanted = Turn(second, 1, 1).point(*Turn(first, 1, 1).point(*place))
    return next(both for both in range(1, 9) if Turn(both, 1, 1).point(*place) == wanted)


def turn_packet(packet: bytes | None, turn: Turn) -> bytes | None:
    """The packet with every place and size in it turned like the pixels; what it does not understand stays."""
    document = xml_spans.parse(packet) if turn.orientation != 1 else None
    if document is None:
        return packet
    upright = turn.is_quarter and _are_upright(document, turn)
    edits = [edit for element in document.elements for edit in _turn_element(element, turn, upright)]
    return document.edit(edits)


def _are_upright(document: Document, turn: Turn) -> bool:
    """Whether the regions' own dimensions are those of the upright picture: their writer has turned them already."""
    for element in document.elements:
        for space in _DIMENSIONS:
            size = _numbers(element.fields(), (f"{space}}}w", f"{space}}}h")) if _is_applied(element) else None
            if size and size[0] != size[1] and turn.width != turn.height:
                return (size[0] > size[1]) != (turn.width > turn.height)
    return False


def _is_applied(element: Element) -> bool:
    """Whether these are the AppliedToDimensions of regions, and not the size of a page."""
    owner: Element | None = element
    if owner and owner.name == xmp.DESCRIPTION:
        owner = owner.parent
    return owner is not None and owner.name.endswith("}AppliedToDimensions")


def _turn_element(element: Element, turn: Turn, upright: bool) -> Iterator[Edit]:
    fields = element.fields()
    yield from _turn_subject(element, turn)
    if not fields:
        return
    if turn.is_quarter:
        for pair in _SWAPPED:
            yield from _swap(fields, pair)
    yield from _turn_rectangle(fields, turn)
    yield from _turn_boundary(element, fields, turn)
    yield from _turn_crop(fields, turn)
    if upright:
        return
    yield from _turn_roll(fields, turn)
    for space in _AREAS:
        yield from _turn_area(fields, space, turn)
    if turn.is_quarter and _is_applied(element):
        for space in _DIMENSIONS:
            yield from _swap(fields, (f"{space}}}w", f"{space}}}h"))


def _turn_area(fields: dict[str, Value], space: str, turn: Turn) -> Iterator[Edit]:
    """An area of MWG or ACDSee: its centre, and width and height unless it is a point or a circle."""
    places = (f"{space}}}x", f"{space}}}y")
    centre = _numbers(fields, places)
    if centre is None:
        return
    unit = fields.get(f"{space}}}unit")
    size = (Decimal(turn.width), Decimal(turn.height)) if unit and unit.text.strip() == "pixel" else _WHOLE
    yield from _put(fields, places, turn.point(centre[0], centre[1], size))
    if turn.is_quarter:
        yield from _swap(fields, (f"{space}}}w", f"{space}}}h"))


def _turn_rectangle(fields: dict[str, Value], turn: Turn) -> Iterator[Edit]:
    """Microsoft's rectangle: `x, y, width, height` of the whole in one text."""
    value = fields.get(_MICROSOFT)
    parts = value.text.split(",") if value else []
    if value and len(parts) == 4 and all(map(_is_number, parts)):
        x, y, width, height = (Decimal(part.strip()) for part in parts)
        turned = turn.box(x, y, width, height)
        yield value.start, value.stop, ", ".join(map(_format, turned)).encode()


def _turn_boundary(element: Element, fields: dict[str, Value], turn: Turn) -> Iterator[Edit]:
    """IPTC's boundary of a region: a rectangle by its corner, a circle by its centre, or a corner of a polygon."""
    names = (f"{_IPTC}rbX", f"{_IPTC}rbY")
    corner = _numbers(fields, names)
    if corner is None:
        return
    size = (Decimal(turn.width), Decimal(turn.height)) if _unit_of(element) == "pixel" else _WHOLE
    extent_names = (f"{_IPTC}rbW", f"{_IPTC}rbH")
    extent = _numbers(fields, extent_names)
    if extent is None:
        yield from _put(fields, names, turn.point(corner[0], corner[1], size))
    else:
        yield from _put(fields, names + extent_names, turn.box(corner[0], corner[1], extent[0], extent[1], size))


def _unit_of(element: Element) -> str:
    """The unit of a boundary; the corners of a polygon lie a few elements below it."""
    above: Element | None = element
    for _ in range(5):
        unit = above.fields().get(f"{_IPTC}rbUnit") if above else None
        if above is None or unit:
            return unit.text.strip() if unit else ""
        above = above.parent
    return ""


def _turn_crop(fields: dict[str, Value], turn: Turn) -> Iterator[Edit]:
    """A crop of Camera Raw: the share of the picture at which each edge lies."""
    names = (f"{_CROP}Left", f"{_CROP}Top", f"{_CROP}Right", f"{_CROP}Bottom")
    edges = _numbers(fields, names)
    if edges is None:
        return
    left, top, width, height = turn.box(edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1])
    yield from _put(fields, names, (left, top, left + width, top + height))
    if turn.orientation in _MIRRORED and (angle := _numbers(fields, (f"{_CROP}Angle",))):
        yield from _put(fields, (f"{_CROP}Angle",), (-angle[0],))


def _turn_roll(fields: dict[str, Value], turn: Turn) -> Iterator[Edit]:
    """The angle of a face in the picture, in degrees, as Apple's cameras tell it."""
    name = f"{_APPLE}AngleInfoRoll"
    if angle := _numbers(fields, (name,)):
        sign = -1 if turn.orientation in _MIRRORED else 1
        yield from _put(fields, (name,), ((sign * angle[0] + _DEGREES.get(turn.orientation, 0)) % 360,))


def _turn_subject(element: Element, turn: Turn) -> Iterator[Edit]:
    """SubjectArea and SubjectLocation of EXIF: x, y and perhaps a diameter, or a width and a height, in pixels."""
    if element.name not in (f"{_EXIF}SubjectArea", f"{_EXIF}SubjectLocation"):
        return
    items = [item for group in element.children for item in group.children if not item.children]
    values = [Value("".join(item.parts), item.inside, item.close) for item in items]
    if not 2 <= len(values) <= 4 or not all(value.text.strip().isdecimal() for value in values):
        return
    turned = turn_subject([int(value.text[:20]) for value in values], turn)
    yield from ((value.start, value.stop, str(new).encode()) for value, new in zip(values, turned, strict=True))


def turn_subject(numbers: list[int], turn: Turn) -> list[int]:
    """The 2-4 numbers of a subject's place: the point turns, a quarter turn exchanges width and height."""
    rest = numbers[2:]
    return [*turn.pixel(numbers[0], numbers[1]), *(rest[::-1] if turn.is_quarter else rest)]


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and any(map(str.isdigit, text))


def _numbers(fields: dict[str, Value], names: tuple[str, ...]) -> list[Decimal] | None:
    """The numbers in these fields; None when one is missing or is no number."""
    values = [fields.get(name) for name in names]
    texts = [value.text for value in values if value and _is_number(value.text)]
    return [Decimal(text.strip()) for text in texts] if len(texts) == len(names) else None


def _put(
    fields: dict[str, Value], names: tuple[str, ...], numbers: "tuple[Decimal, ...] | list[Decimal]"
) -> Iterator[Edit]:
    for name, number in zip(names, numbers, strict=True):
        yield fields[name].start, fields[name].stop, _format(number).encode()


def _swap(fields: dict[str, Value], pair: tuple[str, str]) -> Iterator[Edit]:
    first, second = fields.get(pair[0]), fields.get(pair[1])
    if first and second:
        yield first.start, first.stop, _escape(second.text)
        yield second.start, second.stop, _escape(first.text)


def _escape(text: str) -> bytes:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("'", "&apos;").encode()


def _format(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
