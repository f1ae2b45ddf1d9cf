"""A sheet of photos, each in several versions: one HTML file that can be sent, or one picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from deblur_cli.errors import InputError
from deblur_cli.system.files import check_writable, write_whole
from deblur_cli.system.page_pictures import PictureEncoding, to_data_uri
from deblur_cli.system.pages import MARK, build_dress, render

AS_TAKEN = "as taken"
_HEAD = 4096  # bytes of a file in which the mark of this tool stands
_MARGIN, _GAP, _LINE = 24, 12, 22  # pixels of the drawn sheet
_INK, _QUIET, _PAPER = (26, 29, 33), (90, 98, 108), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Look:
    """One version of a crop: its name, what is to be said of it, and the picture as text."""

    label: str
    note: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class SheetPhoto:
    """A photo on a sheet.

    Attributes:
        name: of its file.
        facts: short lines below the name.
        looks: the photo as it was taken, then the others; all of one size.
        fault: why there are none.
        notes: what is worth knowing of this one.
    """

    name: str
    facts: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    fault: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page of photos.

    Attributes:
        kind: what it is, in a word or two above the title.
        facts: one line below the title.
        command: that made it, or makes the results it shows; may be empty.
        left_out: lines at the end, for photos without a place of their own.
    """

    kind: str
    title: str
    facts: str
    photos: Sequence[SheetPhoto]
    command: str = ""
    left_out: Sequence[str] = ()

    @property
    def is_grid(self) -> bool:
        """Whether photos lie side by side: each has but one version besides the photo as it was taken."""
        return len(self.photos) > 1 and all(len(photo.looks) <= 2 for photo in self.photos)

    @property
    def column(self) -> int:
        """Width of the widest picture, in pixels."""
        return max((look.width for photo in self.photos for look in photo.looks), default=0)

    def to_html(self) -> str:
        """One file that needs nothing else."""
        dress = build_dress(__package__, ("sheet.css",), ("sheet.js",))
        return render(__package__, "sheet.html", sheet=self, dress=dress, mark=MARK)


def make_look(label: str, note: str, picture: Image.Image, encoding: PictureEncoding) -> Look:
    """A look of a picture in memory."""
    return Look(label, note, to_data_uri(picture, encoding), *picture.size)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Before any work: whether a sheet can be written there.

    Raises:
        InputError: the folder cannot be written, or something lies there that is no sheet of this tool.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    check_writable({path.parent})
    if path.exists() and not overwrite:
        try:
            with path.open("rb") as stream:
                head = stream.read(_HEAD)
        except OSError as fault:
            raise InputError(f"{path}: exists and cannot be read ({fault.strerror}); choose another name") from fault
        if head and MARK.encode() not in head:
            raise InputError(f"{path}: exists and is no page of this tool; move it away or choose another name")


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        InputError: the system refuses.
    """
    write_sheet_file(path, text.encode("utf-8", "replace"))


def write_sheet_file(path: Path, content: bytes) -> None:
    """Write what lies on a sheet, whole or not at all; raises InputError where the system refuses."""
    try:
        write_whole(path, content)
    except OSError as fault:
        raise InputError(f"{path}: cannot be written ({fault.strerror}); check the folder and its room") from fault


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """A photo of a drawn sheet: its heading, each picture with its caption, and what is worth knowing of this one."""

    heading: str
    pictures: Sequence[tuple[str, Image.Image]]
    notes: Sequence[str] = ()


def draw_sheet(rows: Sequence[DrawnRow]) -> bytes:
    """A PNG with a row for each photo, and its versions side by side with their names below."""
    widths = [sum(picture.width + _GAP for _, picture in row.pictures) - _GAP for row in rows]
    heights = [
        (3 + len(row.notes)) * _LINE + max((picture.height for _, picture in row.pictures), default=0) + _GAP
        for row in rows
    ]
    bold, plain = ImageFont.load_default(17), ImageFont.load_default(14)
    headings = [bold.getlength(row.heading) for row in rows]
    notes = [plain.getlength(note) for row in rows for note in row.notes]
    width = max([600, *widths, *map(round, headings + notes)]) + 2 * _MARGIN
    canvas = Image.new("RGB", (width, sum(heights) + 2 * _MARGIN), _PAPER)
    pen, top = ImageDraw.Draw(canvas), _MARGIN
    for row, height in zip(rows, heights, strict=True):
        pen.text((_MARGIN, top), row.heading, _INK, bold)
        left, below = _MARGIN, top + _LINE + 6
        for caption, picture in row.pictures:
            canvas.paste(picture, (left, below))
            pen.text((left, below + picture.height + 4), _shorten(caption, picture.width, plain), _QUIET, plain)
            left += picture.width + _GAP
        foot = below + max((picture.height for _, picture in row.pictures), default=0) + 4
        for number, note in enumerate(row.notes, 1):
            pen.text((_MARGIN, foot + number * _LINE), note, _INK, plain)
        top += height
    words = PngImagePlugin.PngInfo()
    words.add_text("Software", MARK)
    stream = io.BytesIO()
    canvas.save(stream, "PNG", pnginfo=words, compress_level=6)
    return stream.getvalue()


def _shorten(text: str, width: int, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont") -> str:
    while font.getlength(text) > width and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    return text
