"""Folder -> named data set of pairs, recognised by its layout. Pairs by name, never by position; reads no pixels."""

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.benchmark.catalogue import explain_missing
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import find_format, probe_size
from deblur_cli.system.files import natural_key

_BLURRY_FOLDERS = ("blurry", "blur", "input")
_SHARP_FOLDERS = ("sharp", "gt", "target")
_KOEHLER_SHOT = re.compile(r"Blurry(\d+)_(\d+)")
# Left out by the authors' own evaluation: "for whatever reason" it does not show the scene.
_KOEHLER_BROKEN = "GroundTruth1_3_30"
_LISTED = 8  # unpaired names that a message shows


@dataclass(frozen=True, slots=True)
class Pair:
    """One blurry photo and its truth."""

    image: str  # path of the blurry photo below the root, with "/" on every system
    blurry: Path
    truths: tuple[Path, ...]  # empty without truth; several where any frame of a trajectory will do


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as found: its layout decides the protocol that `--protocol auto` takes."""

    name: str
    layout: str
    root: Path
    pairs: tuple[Pair, ...]
    protocol: str = "full"
    remarks: tuple[str, ...] = ()  # for the user: what was left out, and why

    @property
    def has_truth(self) -> bool:
        """Whether every photo has a truth; layouts never mix."""
        return bool(self.pairs) and bool(self.pairs[0].truths)


@dataclass(frozen=True, slots=True)
class PairSearch:
    """How folders are read."""

    allow_missing: bool = False  # leave out what has no partner instead of refusing
    gamma: bool = False  # GoPro: `blur_gamma` instead of the linear `blur` that the literature uses
    self_truth: bool = False  # sharp photos: each is its own truth, to see what a model harms


def find_datasets(roots: Sequence[Path], search: PairSearch, limit: int | None = None) -> list[Dataset]:
    """The data sets at these places, their names made unique, cut to the first `limit` pairs each.

    Raises:
        InputError: a place is missing, is no data set, or its files do not pair.
    """
    found: list[Dataset] = []
    for root in roots:
        dataset = find_dataset(root, search)
        taken = [other.name for other in found]
        name, number = dataset.name, 2
        while name in taken:
            name, number = f"{dataset.name}-{number}", number + 1
        found.append(replace(dataset, name=name, pairs=dataset.pairs[:limit]))
    return found


def find_dataset(root: Path, search: PairSearch) -> Dataset:
    """The data set at one place.

    Raises:
        InputError: see `find_datasets`.
    """
    if not root.exists():
        raise InputError(explain_missing(root))
    dataset = _recognise(root, search)
    if dataset is None:
        raise InputError(_explain_unknown(root, search))
    return replace(dataset, name=_name(root))


def check_sizes(dataset: Dataset) -> None:
    """Raise InputError when a truth has another size than its blurry photo; reads headers only.

    A photo whose header cannot be read is left for the run, which notes it and goes on.
    """
    for pair in dataset.pairs:
        for truth in pair.truths[:1]:
            with suppress(PhotoError):
                _check_pair(pair.blurry, truth)


def _check_pair(blurry: Path, truth: Path) -> None:
    if truth == blurry:
        return
    (width, height), (truth_width, truth_height) = probe_size(blurry), probe_size(truth)
    if (width, height) != (truth_width, truth_height):
        raise InputError(f"{blurry} is {width}x{height} but its truth {truth} is {truth_width}x{truth_height}")


def _recognise(root: Path, search: PairSearch) -> Dataset | None:
    """The first layout that fits, the most particular first."""
    if search.self_truth:
        return _find_self(root)
    layouts = (_find_realblur, _find_gopro, _find_hide, _find_koehler, _find_pairs, _find_plain)
    return next((dataset for layout in layouts if (dataset := layout(root, search))), None)


def _find_gopro(root: Path, search: PairSearch) -> Dataset | None:
    """`test/SEQ/{blur,blur_gamma,sharp}`, or the `test` folder itself."""
    base = root / "test" if (root / "test").is_dir() else root
    named_so = base.name == "test" or all(folder.name.startswith("GOPR") for folder in _folders(base))
    sequences = [folder for folder in _folders(base) if (folder / "sharp").is_dir()]
    if not sequences or not named_so:
        return None
    blur = "blur_gamma" if search.gamma else "blur"
    blurry = {key: path for folder in sequences for key, path in _index(folder / blur, base, blur).items()}
    sharp = {key: path for folder in sequences for key, path in _index(folder / "sharp", base, "sharp").items()}
    return _pair("gopro", base, blurry, sharp, search)


def _find_hide(root: Path, search: PairSearch) -> Dataset | None:
    """`test/` (with its two sub-folders) beside `GT/`, which holds the truths of all splits by file name."""
    if not ((root / "test").is_dir() and (root / "GT").is_dir()):
        return None
    blurry = {path.stem: path for path in _photos(root / "test", recursive=True)}
    sharp = {path.stem: path for path in _photos(root / "GT", recursive=True)}
    needed = {key: path for key, path in sharp.items() if key in blurry}
    return _pair("hide", root, blurry, needed, search)


def _find_realblur(root: Path, search: PairSearch) -> Dataset | None:
    """The authors' test list, named or lying in the folder: lines of `…/gt/gt_1.png …/blur/blur_1.png`."""
    lists = [root] if root.is_file() else sorted(root.glob("RealBlur_[JR]_test_list.txt"))
    if not lists or lists[0].suffix != ".txt":
        return None
    if len(lists) > 1:
        raise InputError(f"{root}: holds several lists; name one: {' or '.join(map(str, lists))}")
    layout = "realblur-r" if "RealBlur_R" in lists[0].name else "realblur-j"
    pairs = [_read_realblur_line(line, lists[0].parent) for line in _lines(lists[0])]
    blurry = {pair.image: pair.blurry for pair in pairs if pair.blurry.is_file()}
    sharp = {pair.image: pair.truths[0] for pair in pairs if pair.truths[0].is_file()}
    dataset = _pair(layout, lists[0].parent, blurry, sharp, search)
    return replace(dataset, protocol="realblur")


def _find_koehler(root: Path, search: PairSearch) -> Dataset | None:
    """`Blurry1_1.png` … and `Image1/Kernel1/GroundTruth1_1_1.png` …; any frame of the trajectory may match."""
    folder = root / "BlurryImages" if (root / "BlurryImages").is_dir() else root
    shots = [path for path in _photos(folder) if _KOEHLER_SHOT.fullmatch(path.stem)]
    if not shots:
        return None
    pairs: list[Pair] = []
    missing: list[Pair] = []
    for shot in shots:
        truths = _koehler_frames(root, shot.stem)
        (pairs if truths else missing).append(Pair(shot.relative_to(root).as_posix(), shot, tuple(truths)))
    names = [pair.image for pair in missing]
    remarks = _refuse_or_remark("koehler", root, names, [], search)
    return Dataset("", "koehler", root, tuple(pairs), "koehler", remarks)


def _find_pairs(root: Path, search: PairSearch) -> Dataset | None:
    """`blurry/`, `blur/` or `input/` beside `sharp/`, `gt/` or `target/`, each with or without sub-folders."""
    blurry = next((root / name for name in _BLURRY_FOLDERS if (root / name).is_dir()), None)
    sharp = next((root / name for name in _SHARP_FOLDERS if (root / name).is_dir()), None)
    if blurry is None or sharp is None:
        return None
    return _pair("pairs", root, _index(blurry, blurry), _index(sharp, sharp), search)


def _find_plain(root: Path, search: PairSearch) -> Dataset | None:
    """Photos without truth, RWBI among them."""
    pairs = tuple(Pair(path.name, path, ()) for path in _photos(root))
    return Dataset("", "plain", root, pairs) if pairs else None


def _find_self(root: Path) -> Dataset | None:
    pairs = tuple(Pair(path.name, path, (path,)) for path in _photos(root))
    return Dataset("", "self", root, pairs) if pairs else None


def _pair(layout: str, root: Path, blurry: dict[str, Path], sharp: dict[str, Path], search: PairSearch) -> Dataset:
    """Partners by key, in natural order."""
    lonely = sorted(blurry.keys() - sharp.keys(), key=natural_key)
    unused = sorted(sharp.keys() - blurry.keys(), key=natural_key)
    remarks = _refuse_or_remark(layout, root, lonely, unused, search)
    keys = sorted(blurry.keys() & sharp.keys(), key=natural_key)
    if not keys:
        raise InputError(f"{root}: recognised as {layout}, but no blurry photo has a truth of its name")
    pairs = (Pair(blurry[key].relative_to(root).as_posix(), blurry[key], (sharp[key],)) for key in keys)
    return Dataset("", layout, root, tuple(pairs), remarks=remarks)


def _refuse_or_remark(
    layout: str, root: Path, lonely: Sequence[str], unused: Sequence[str], search: PairSearch
) -> tuple[str, ...]:
    parts = [
        f"{len(names)} {what} ({_shorten(names)})"
        for names, what in ((lonely, "without truth"), (unused, "without blurry photo"))
        if names
    ]
    if parts and not search.allow_missing:
        advice = "complete the folder or add --allow-missing"
        raise InputError(f"{root} ({layout}): unpaired: {'; '.join(parts)}; {advice}")
    return tuple(f"{root}: left out {part}" for part in parts)


def _read_realblur_line(line: str, base: Path) -> Pair:
    """One line of the list; scene 244 is judged against its mirrored truth, as the official evaluation does."""
    paths = [part for part in line.split() if find_format(Path(part))]
    blurry = [part for part in paths if "/blur/" in part]
    truths = [part for part in paths if "/gt/" in part]
    if len(blurry) != 1 or len(truths) != 1:
        raise InputError(f"RealBlur's list: not a pair of gt and blur: {line!r}")
    mirrored = base / truths[0].replace("scene244/", "scene244_reflect/")
    truth = mirrored if mirrored.is_file() else base / truths[0]
    return Pair(blurry[0], base / blurry[0], (truth,))


def _koehler_frames(root: Path, stem: str) -> list[Path]:
    printout, trajectory = stem.removeprefix("Blurry").split("_")
    folder = root / f"Image{printout}" / f"Kernel{trajectory}"
    frames = [path for path in _photos(folder) if path.stem.startswith(f"GroundTruth{printout}_{trajectory}_")]
    return [path for path in frames if path.stem != _KOEHLER_BROKEN]


def _index(folder: Path, base: Path, drop: str = "") -> dict[str, Path]:
    """Key -> photo; the key is the path below `base` without suffix and without the part named `drop`.

    Raises:
        InputError: two files differ in their suffix only, so that their partner is not certain.
    """
    found: dict[str, Path] = {}
    for path in _photos(folder, recursive=True):
        parts = path.relative_to(base).with_suffix("").parts
        key = "/".join(part for part in parts if part != drop or not drop)
        if key in found:
            raise InputError(f"{path} and {found[key].name} have one name; which belongs to the pair?")
        found[key] = path
    return found


def _photos(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Photos by suffix in natural order, hidden files left out."""
    if not folder.is_dir():
        return []
    paths: Iterable[Path] = folder.rglob("*") if recursive else folder.iterdir()
    photos = [path for path in paths if not path.name.startswith(".") and find_format(path) and path.is_file()]
    return sorted(photos, key=lambda path: natural_key(path.as_posix()))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _explain_unknown(root: Path, search: PairSearch) -> str:
    inside = [folder for folder in _folders(root) if _recognise(folder, replace(search, allow_missing=True))]
    if inside:
        names = " ".join(os.fspath(folder) for folder in inside)
        return f"{root}: holds several data sets; name them: deblur bench {names}"
    return f"{root}: not a data set: no photos, no blur/ beside sharp/, no known layout (see `deblur bench --help`)"


def _name(root: Path) -> str:
    """The folder's name, or of the one above when it says nothing."""
    folder = root.resolve()
    folder = folder.parent if folder.is_file() or folder.name in {"test", "val"} else folder
    return re.sub(r"[^\w.-]+", "-", folder.name) or "dataset"


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
