"""Small photos in folders, and what lies in a folder."""

from pathlib import Path

from PIL import Image


def photo(name: str, shade: int = 90) -> Path:
    """A photo of one colour; its folder is made."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (shade, 80, 70)).save(path)
    return path


def broken(name: str) -> Path:
    """A photo of which the second half is missing."""
    path = photo(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def tree(folder: str | Path) -> list[str]:
    """All files below, by their places in the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
