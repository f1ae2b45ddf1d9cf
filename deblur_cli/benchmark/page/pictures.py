"""Pictures for the page: photos of the report's folder become data URIs within a budget.

Each version of a photo is kept as a preview of the whole and as a region pixel for pixel; a photo of up to
`REGION` is its own preview. All versions of a photo are encoded alike, or a comparison would show the codec.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from deblur_cli.benchmark.page.error_map import Floats, absolute_error, pick_limit, shrink, to_colours
from deblur_cli.benchmark.page.photos import PagePhoto
from deblur_cli.benchmark.records import BLURRY, SHARP
from deblur_cli.system.page_pictures import LOSSLESS, PictureEncoding, find_busiest, jpeg, to_data_uri, webp

BUDGET = 14_000_000  # characters of all data URIs, for a page below 15 MB
GENEROUS = 12  # photos that share the budget when there are more of them
REGION = (1280, 1024)  # largest region kept pixel for pixel
PREVIEW_SIDE = 1280
START_WINDOW = 256  # side of the window that looks for the most telling place


ENCODINGS = (LOSSLESS, jpeg(97), jpeg(94), webp(92), webp(87), webp(80))  # the best that fits is taken
PREVIEW = webp(85)
MAP = webp(85)


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a photo, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def box(self) -> tuple[int, int, int, int]:
        """As Pillow wants it."""
        return self.left, self.top, self.left + self.width, self.top + self.height


@dataclass(frozen=True, slots=True)
class Viewer:
    """Everything the viewer shows of one photo, as plain JSON values."""

    photo: PagePhoto
    table: dict[str, Any]
    characters: int  # of its data URIs


def build_viewers(photos: Sequence[PagePhoto], budget: int = BUDGET) -> list[Viewer]:
    """Viewers for as many photos as the budget holds, in the order given."""
    viewers: list[Viewer] = []
    left = budget
    for index, photo in enumerate(photos):
        share = left // max(1, min(len(photos) - index, GENEROUS - len(viewers)))
        viewer = build_viewer(photo, share, left)
        if viewer is not None:
            viewers.append(viewer)
            left -= viewer.characters
    return viewers


def build_viewer(photo: PagePhoto, share: int, limit: int) -> Viewer | None:
    """The viewer of a photo in about `share` characters; None if not even `limit` holds it.

    Also None if fewer than two of its pictures can be read and have one size.
    """
    versions = _read_versions(photo)
    if len(versions) < 2:
        return None
    maps, map_limit, mean_errors = _error_maps(versions)
    region, start = _find_places(versions)
    for number, encoding in enumerate(ENCODINGS):
        is_last = number == len(ENCODINGS) - 1
        if not is_last and _expected(versions, region, encoding) > share:
            continue
        pictures = {name: _encode_version(version, region, encoding) for name, version in versions.items()}
        characters = sum(len(text) for pair in pictures.values() for text in pair if text)
        characters += sum(map(len, maps.values()))
        if characters <= (limit if is_last else min(limit, share * 1.15)):
            table = _table(photo, versions, region, start) | {"encoding": encoding.label, "limit": map_limit}
            table["versions"] = [
                {
                    "name": name,
                    "detail": detail,
                    "preview": preview,
                    "error": maps.get(name),
                    "mean": mean_errors.get(name),
                }
                for name, (detail, preview) in pictures.items()
            ]
            return Viewer(photo, table, characters)
    return None


def _table(
    photo: PagePhoto, versions: dict[str, Image.Image], region: Region, start: tuple[int, int]
) -> dict[str, Any]:
    width, height = next(iter(versions.values())).size
    return {
        "dataset": photo.dataset,
        "image": photo.image,
        "width": width,
        "height": height,
        "region": [region.left, region.top, region.width, region.height],
        "start": list(start),
    }


def _read_versions(photo: PagePhoto) -> dict[str, Image.Image]:
    """The versions that can be read and have the first one's size, as 8-bit RGB."""
    versions: dict[str, Image.Image] = {}
    for name, file in photo.files.items():
        try:
            with Image.open(file) as opened:
                picture = opened.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError):
            continue  # a picture is an illustration: a broken one costs its place, not the report
        if not versions or picture.size == next(iter(versions.values())).size:
            versions[name] = picture
    return versions


def _error_maps(versions: dict[str, Image.Image]) -> tuple[dict[str, str], int, dict[str, float]]:
    sharp = versions.get(SHARP)
    if sharp is None:
        return {}, 0, {}
    small: dict[str, Floats] = {}
    means = {}
    for name, version in versions.items():
        if name != SHARP:
            error = absolute_error(version, sharp)
            small[name], means[name] = shrink(error), round(float(error.mean()), 3)
    limit = pick_limit(list(small.values()))
    return {name: to_data_uri(to_colours(error, limit), MAP) for name, error in small.items()}, limit, means


def _find_places(versions: dict[str, Image.Image]) -> tuple[Region, tuple[int, int]]:
    """The region kept pixel for pixel and where the crop window starts (its centre): where most changes."""
    first, *others = versions.values()
    change = absolute_error(versions.get(BLURRY, first), versions.get(SHARP, others[0]))
    height, width = change.shape
    size = min(width, REGION[0]), min(height, REGION[1])
    region = Region(*find_busiest(change, size), *size)
    within = change[region.top : region.top + region.height, region.left : region.left + region.width]
    window = min(START_WINDOW, region.width), min(START_WINDOW, region.height)
    left, top = find_busiest(within, window)
    return region, (region.left + left + window[0] // 2, region.top + top + window[1] // 2)


def _expected(versions: dict[str, Image.Image], region: Region, encoding: PictureEncoding) -> int:
    """Characters that all versions will take, from the middle ninth of the sharpest of them."""
    picture = versions.get(SHARP, list(versions.values())[-1])
    left, top = region.left + region.width // 3, region.top + region.height // 3
    sample = Region(left, top, max(1, region.width // 3), max(1, region.height // 3))
    scale = region.width * region.height / (sample.width * sample.height)
    return round(len(to_data_uri(picture.crop(sample.box()), encoding)) * scale * len(versions))


def _encode_version(picture: Image.Image, region: Region, encoding: PictureEncoding) -> tuple[str, str | None]:
    """The region, and the preview unless the region is the whole."""
    if (region.width, region.height) == picture.size:
        return to_data_uri(picture, encoding), None
    preview = picture.copy()
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return to_data_uri(picture.crop(region.box()), encoding), to_data_uri(preview, PREVIEW)
