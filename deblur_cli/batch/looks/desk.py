"""What the page of `deblur view` asks for: thumbnails, pictures, facts, choices. Knows no network and no address."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from deblur_cli.batch.looks.choices import Choice, ChoiceFile
from deblur_cli.batch.looks.comparisons import GONE, describe_recipe, exif_line
from deblur_cli.batch.looks.crops import to_levels, to_srgb
from deblur_cli.batch.looks.results import ResultFile, Results, SourceFinder
from deblur_cli.batch.origin import stamp_of
from deblur_cli.batch.stamp import Stamp, read_recipe, stamped
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import read_header, read_photo
from deblur_cli.system.kept_files import KeptFiles
from deblur_cli.system.pages import MARK, build_dress, render, to_script_json

_SIDE = 360  # pixels of a thumbnail's long side
_AS_THEY_ARE = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
}  # what browsers show
_AT_ONCE = 2  # photos that are decoded at a time
_KEPT = 6  # converted pictures in memory


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for a browser: its bytes, or the file that has them."""

    content_type: str
    content: bytes = b""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model for doing a photo again, and whether it takes a strength."""

    name: str
    has_strength: bool


@dataclass(eq=False)
class Desk:
    """The results that lie on it, and everything that is known of them; each has its number.

    A result may be done again meanwhile: whatever is asked for is told of the file as it is then.

    Attributes:
        read_model: takes a model as `--model` takes it apart into its name and strength; raises InputError.
        kept: thumbnails of earlier desks.
    """

    results: Results
    finder: SourceFinder
    choices: ChoiceFile
    models: Sequence[OfferedModel]
    read_model: Callable[[str], tuple[str, float | None]]
    kept: KeptFiles | None = None
    _seen: dict[int, tuple[ResultFile, str]] = field(default_factory=dict)
    _thumbnails: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    _converted: "OrderedDict[tuple[int, str, str], bytes]" = field(default_factory=OrderedDict)
    _decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))
    _locks: dict[int, threading.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._seen = {number: (file, _find_version(file.path)) for number, file in enumerate(self.results.files)}

    def page(self) -> str:
        """The page, with the names of all results and what was decided of them."""
        dress = build_dress(
            __package__, ("view.css",), ("view.js",), sources="img-src 'self' data:; connect-src 'self'"
        )
        chosen = self.choices.read()
        files = self.results.files
        table = {
            "results": [{"name": file.name, **self._tell_choice(number, chosen)} for number, file in enumerate(files)],
            "models": [{"name": model.name, "strength": model.has_strength} for model in self.models],
        }
        return render(
            __package__,
            "view.html",
            title=self.results.folder.resolve().name or str(self.results.folder),
            results=len(files),
            others=self.results.others,
            file=str(self.choices.path),
            table=to_script_json(table),
            dress=dress,
            mark=MARK,
        )

    def thumbnail(self, number: int) -> Picture:
        """A small picture of a result, made when it is first asked for.

        Raises:
            PhotoError: the file cannot be read.
        """
        with self._locks.setdefault(number, threading.Lock()):
            result, version = self._look(number)
            if number not in self._thumbnails or self._thumbnails[number][0] != version:
                self._thumbnails[number] = version, self._find_thumbnail(result)
            return Picture("image/webp", self._thumbnails[number][1])

    def _look(self, number: int) -> tuple[ResultFile, str]:
        """A result as it is now, or was while it was there, and its version: another one when it was done again."""
        result, version = self._seen[number]
        found = _find_version(result.path)
        if found not in (version, ""):
            result, version = replace(result, stamp=stamp_of(result.path) or ""), found
            self._seen[number] = result, version
        return result, version

    def _find_thumbnail(self, result: ResultFile) -> bytes:
        """The one that was made before of this very file, by this desk or by another one, else a new one."""
        path = result.path
        try:
            status = path.stat()
        except OSError as fault:
            raise PhotoError(f"{path}: cannot be read ({fault.strerror})") from fault
        # A result has the times of its photo, also when it was done again; then its stamp is another one.
        known = f"{path.resolve()}\n{status.st_mtime_ns}\n{status.st_size}\n{_SIDE}\n{result.stamp}"
        name = hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()
        made = self.kept.read(name) if self.kept else None
        if made is None:
            with self._decoding:
                made = _make_thumbnail(path)
            if self.kept:
                self.kept.write(name, made)
        return made

    def picture(self, number: int, which: str) -> Picture:
        """A whole photo, "before" or "after"; as it is where a browser can show it, else converted.

        Raises:
            PhotoError: the file is gone or cannot be read.
        """
        result, version = self._look(number)
        path = result.path if which == "after" else self._find_source(result)
        if path is None:
            raise PhotoError(GONE)
        header = read_header(path)
        if header.bits == 8 and header.file_format in _AS_THEY_ARE:
            return Picture(_AS_THEY_ARE[header.file_format], path=path)
        key = (number, which, version)
        with self._decoding:
            if key not in self._converted:
                photo = read_photo(path)
                stream = BytesIO()
                picture = to_srgb(Image.fromarray(to_levels(photo.pixels)), photo.metadata.icc)
                picture.save(stream, "JPEG", quality=97, subsampling=0)
                self._converted[key] = stream.getvalue()
                while len(self._converted) > _KEPT:
                    self._converted.popitem(last=False)
            return Picture("image/jpeg", self._converted[key])

    def facts(self, number: int) -> dict[str, Any]:
        """What stands beside a result when it is looked at."""
        result, _ = self._look(number)
        source = self._find_source(result)
        recipe = read_recipe(result.stamp)
        told = {
            "result": self._tell_work(number, self._read_choice(result)),
            "recipe": describe_recipe(recipe),
            "notice": stamped(result.stamp, "notice"),
            "exif": exif_line(result.path),
        }
        try:
            width, height = read_header(result.path).shown_size
            is_same = source is None or read_header(source).shown_size == (width, height)
        except PhotoError as fault:
            return {**told, "fault": str(fault), "source": "", "width": 0, "height": 0}
        why = "" if is_same else "the photo has another size than the result now"
        shown = str(source) if source and is_same else ""
        return {**told, "fault": why if source else GONE, "source": shown, "width": width, "height": height}

    def choose(self, number: int, verdict: str, model: str = "", strength: float | None = None) -> dict[str, Any]:
        """Write down what is to become of a result; an empty verdict takes it back.

        Raises:
            InputError: there is no such verdict or model, the photo is gone, a redo needs a mask, or the file cannot be
                written.
        """
        result, _ = self._look(number)
        name = self.choices.relative(result.path)
        if verdict == "":
            self.choices.put(name, None)
        elif verdict in ("keep", "reject"):
            self.choices.put(name, Choice(verdict, name))  # type: ignore[arg-type]
        elif verdict == "redo":
            self.choices.put(name, Choice("redo", name, self._spell(model, strength), self._name_source(result)))
        else:
            raise InputError(f"{verdict}: is no choice; keep, redo or reject")
        return self._tell_choice(number, self.choices.read())

    def _spell(self, name: str, strength: float | None) -> str:
        offered = {model.name: model for model in self.models}
        if name not in offered:
            raise InputError(f"{name}: no such model here")
        if strength is None or not offered[name].has_strength:
            return name
        if not 0 <= strength <= 1:
            raise InputError(f"strength {strength}: must be from 0 to 1")
        return f"{name}:strength={strength:g}"

    def _name_source(self, result: ResultFile) -> str:
        if "mask_sha256" in read_recipe(result.stamp).options:
            raise InputError("was made with a mask, and is done again by: deblur run PHOTO -o OUTPUT --mask FILE")
        source = self._find_source(result)
        if source is None:
            raise InputError(f"cannot be done again: {GONE}")
        return self.choices.relative(source.resolve())

    def _find_source(self, result: ResultFile) -> Path | None:
        said = self._read_choice(result)
        hint = self.choices.resolve(said.source) if said and said.source else None
        return self.finder.find(result, hint)

    def _read_choice(self, result: ResultFile) -> Choice | None:
        """What was decided of a result; None also where the file of choices has become none."""
        try:
            return self.choices.read().get(self.choices.relative(result.path))
        except InputError:
            return None

    def _tell_choice(self, number: int, chosen: Mapping[str, Choice]) -> dict[str, Any]:
        choice = chosen.get(self.choices.relative(self.results.files[number].path))
        return {
            "choice": choice.verdict if choice else "",
            "model": choice.model if choice else "",
            **self._tell_work(number, choice),
        }

    def _tell_work(self, number: int, choice: Choice | None) -> dict[str, Any]:
        """What made a result, whether that is what was to be done again, and the version of its file."""
        result, version = self._look(number)
        recipe = read_recipe(result.stamp)
        is_done = choice is not None and choice.verdict == "redo" and self._is_done(choice.model, recipe)
        return {"done": is_done, "by": recipe.model, "version": version}

    def _is_done(self, model: str, recipe: Stamp) -> bool:
        """Whether a result was made as it was to be done again."""
        try:
            name, strength = self.read_model(model)
        except InputError:
            return False
        return recipe.model == name and strength in (None, recipe.options.get("strength"))


def _find_version(path: Path) -> str:
    """What a file has in common with no earlier one of its name, without reading it; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    known = f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"
    return hashlib.sha256(known.encode()).hexdigest()[:12]


def _make_thumbnail(path: Path) -> bytes:
    header = read_header(path)  # it knows what is too large, or no photo
    stream = BytesIO()
    if header.file_format == "jpeg":
        try:
            with Image.open(path) as opened:
                opened.draft("RGB", (_SIDE, _SIDE))  # decodes a quarter or an eighth of a large photo
                picture = ImageOps.exif_transpose(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as fault:
            raise PhotoError(f"{path}: cannot be read ({fault}); copy it again from its source") from fault
        icc = header.metadata.icc
    else:
        photo = read_photo(path)
        step = max(1, min(photo.pixels.shape[:2]) // (2 * _SIDE))
        picture, icc = Image.fromarray(to_levels(photo.pixels[::step, ::step]).copy()), photo.metadata.icc
    picture.thumbnail((_SIDE, _SIDE))
    to_srgb(picture, icc).save(stream, "WEBP", quality=80, method=0)
    return stream.getvalue()
