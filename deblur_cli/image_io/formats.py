"""Names, suffixes and signatures of the photo formats. Opens no file."""

from pathlib import Path

WRITABLE_FORMATS = ("jpeg", "png", "tiff", "webp", "avif")

# fmt: off
RAW_SUFFIXES = frozenset([
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
])
# fmt: on
_SUFFIXES = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".avif": "avif",
    ".heic": "heif",
    ".heif": "heif",
    ".hif": "heif",
} | dict.fromkeys(RAW_SUFFIXES, "raw")
_DEFAULT_SUFFIXES = {
    "jpeg": ".jpg",
    "png": ".png",
    "tiff": ".tif",
    "webp": ".webp",
    "avif": ".avif",
    "heif": ".heic",
    "raw": ".dng",
}
_PLAIN_SIGNATURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
_RAW_SIGNATURES = (
    b"FUJIFILMCCD-RAW",
    b"IIU\0",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"\0MRM",
    b"FOVb",
    b"II\x1a\0\0\0HEAPCCDR",
)
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def find_format(path: Path) -> str | None:
    """Format that the suffix promises, upper or lower case; None when it is no photo this tool knows."""
    return _SUFFIXES.get(path.suffix.lower())


def default_suffix(file_format: str) -> str:
    """Suffix of a new file, with its dot: `jpeg` -> `.jpg`."""
    return _DEFAULT_SUFFIXES[file_format]


def same_format(file_format: str) -> str:
    """The format that `--format same` writes: heif -> jpeg, raw -> tiff (16 bit), all others stay."""
    return {"heif": "jpeg", "raw": "tiff"}.get(file_format, file_format)


def sniff_format(head: bytes, path: Path) -> str | None:
    """Format of a file by its first 32 bytes.

    The suffix decides only between TIFF and the camera RAW kinds, which begin like a TIFF.
    """
    for signature, file_format in _PLAIN_SIGNATURES.items():
        if head.startswith(signature):
            return file_format
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head.startswith(_TIFF_SIGNATURES):
        return "raw" if path.suffix.lower() in RAW_SUFFIXES else "tiff"
    return "raw" if head.startswith(_RAW_SIGNATURES) else None


def _sniff_brands(head: bytes) -> str | None:
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))]
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    if brands[0] == b"crx ":
        return "raw"
    return "heif" if any(brand in _HEIF_BRANDS for brand in brands) else None
