"""Where each output goes and what it is called. Looks at no file's content."""

import os
import string
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.batch.inputs import FoundPhoto
from deblur_cli.errors import InputError
from deblur_cli.image_io import default_suffix, find_format, same_format, writable_formats
from deblur_cli.image_io.formats import OTHER_PICTURES

NAME_FIELDS = ("stem", "type", "model", "ext")  # `type`: the suffix of the photo itself, without its dot


@dataclass(frozen=True, slots=True)
class Layout:
    """How an input's path becomes an output's path."""

    output: Path  # a folder, or the one output file
    is_file: bool
    file_format: str  # "same", or a key of `writable_formats()`
    name: str  # a template over NAME_FIELDS
    model: str

    def destination(self, photo: FoundPhoto) -> tuple[Path, str]:
        """The output of a photo and its file format.

        Raises:
            InputError: the name does not end in a suffix of the output's format.
        """
        source_format = find_format(photo.path)
        assert source_format is not None, "inputs.find_photos lets only photos through"
        if self.is_file:
            return self.output, self._format_of_file()
        file_format = same_format(source_format) if self.file_format == "same" else writable_formats()[self.file_format]
        suffix = photo.path.suffix if file_format == source_format else default_suffix(file_format)
        own = photo.path.suffix.removeprefix(".")
        name = self.name.format(stem=photo.path.stem, type=own, model=self.model, ext=suffix)
        output = self.output / photo.relative.with_name(name)
        if find_format(output) != file_format:
            raise InputError(f"--name {self.name}: {name} is no {file_format} file; end it in {{ext}}")
        return output, file_format

    def telling_types_apart(self) -> "Layout | None":
        """The same with {type} in its names; None where no name is made, or it is there."""
        if self.is_file or "{type}" in self.name:
            return None
        name = self.name.replace("{stem}", "{stem}_{type}", 1) if "{stem}" in self.name else "{stem}_{type}{ext}"
        return replace(self, name=name)

    def _format_of_file(self) -> str:
        found, known = find_format(self.output), writable_formats()
        if found not in known.values():
            raise InputError(
                f"{self.output}: this format can be read but not written; choose one of {', '.join(known)}"
            )
        if known.get(self.file_format, found) != found:
            raise InputError(f"{self.output}: the suffix contradicts --format {self.file_format}")
        return str(found)


@dataclass(frozen=True, slots=True)
class FixedLayout:
    """In the place of a `Layout`: each photo's `relative` is its output already, as in a file of choices."""

    def destination(self, photo: FoundPhoto) -> tuple[Path, str]:
        """See `Layout.destination`.

        Raises:
            InputError: the output is of no format that is written.
        """
        found, known = find_format(photo.relative), writable_formats()
        if found not in known.values():
            raise InputError(f"{photo.relative}: this format cannot be written; choose one of {', '.join(known)}")
        return photo.relative, str(found)

    def telling_types_apart(self) -> None:
        """No name is made."""


def names_a_file(output: str, *, single_file: bool) -> bool:
    """Whether `-o` names the output file itself rather than a folder.

    Raises:
        InputError: it looks like a photo, but more than one file may come out, or of a format that is not written.
    """
    path = Path(output)
    if output == "-":
        raise InputError("-: photos cannot go to standard output; name a folder, or ./- for one of that name")
    if output.endswith(("/", "\\")) or os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises on a long name
        return False
    if find_format(path) is None:
        if path.suffix.lower() in OTHER_PICTURES:
            known = ", ".join(writable_formats())
            raise InputError(f"{output}: this format cannot be written; choose one of {known}, or end a folder in /")
        return False
    if not single_file:
        raise InputError(f"{output}: names one photo, the input is no single file; use a folder, {output}/")
    return True


def check_template(template: str) -> str:
    """The template, once it is known to use nothing but the few safe fields.

    Raises:
        InputError: an unknown field, a conversion, a format, unbalanced braces or a path separator.
    """
    known = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as fault:
        raise InputError(f"--name {template}: {fault}; known fields are {known}") from fault
    for _, field, form, conversion in parts:
        if field is not None and (field not in NAME_FIELDS or form or conversion):
            raise InputError(f"--name {template}: unknown field {{{field}}}; known are {known}")
    if not Path(template).name:
        raise InputError(f"--name '{template}': is no name for a file; use fields such as {known}")
    if "/" in template or "\\" in template:
        raise InputError(f"--name {template}: a name has no folders; use --output for them")
    return template
