"""Files that can be made again: checked when they are read, and those used last stay."""

import os
from pathlib import Path

from deblur_cli.system.kept_files import KeptFiles


def test_those_used_last_stay(tmp_path: Path) -> None:
    files = KeptFiles(tmp_path, 300)
    for age, name in ((30, "a"), (20, "b")):
        files.write(name, bytes(100))
        past = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (past, past))
    assert files.read("a") == bytes(100)
    files.write("c", bytes(100))
    files.trim()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c"}
    assert files.read("b") is None


def test_a_damaged_file_is_none_and_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    files = KeptFiles(tmp_path / "kept", 300)
    files.trim()
    files.write("a", b"content")
    (tmp_path / "kept/a").write_bytes((tmp_path / "kept/a").read_bytes()[:-1])
    assert files.read("a") is None
    (tmp_path / "file").touch()
    KeptFiles(tmp_path / "file", 300).write("a", b"content")
    assert KeptFiles(tmp_path / "file", 300).read("a") is None
