"""One way to write a file whole; what killed writers leave goes away, and nothing else does."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deblur_cli.system import files as atomic
from deblur_cli.system.files import (
    find_leftovers,
    host,
    is_leftover_of,
    remove_leftovers,
    remove_own_files,
    whole_file,
)

HERE = host()
posix = pytest.mark.skipif(os.name == "nt", reason="no file locks of this kind there")

_WRITER = """
import sys, time
from pathlib import Path
from deblur_cli.system.files import whole_file

with whole_file(Path(sys.argv[1])) as path:
    path.write_bytes(b"half")
    print(path, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is writing `a.jpg`, and its temporary file."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, tmp_path / "a.jpg"], stdout=subprocess.PIPE, text=True
    ) as made:
        yield made, Path(made.stdout.readline().strip())
        made.kill()


def put(target, write):
    with whole_file(target) as path:
        write(path)


def later(monkeypatch, seconds):
    now = time.time()
    monkeypatch.setattr(atomic.time, "time", lambda: now + seconds)


def left(folder):
    return remove_leftovers(find_leftovers([folder]))


@posix
def test_what_a_killed_writer_left_goes_once_it_is_old(tmp_path, writer, monkeypatch):
    process, temporary = writer
    process.kill()
    process.wait()
    assert left(tmp_path) == [temporary]
    later(monkeypatch, 70)
    assert left(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@posix
def test_the_file_of_a_living_writer_stays_however_old_it_is(tmp_path, writer, monkeypatch):
    later(monkeypatch, 1e6)
    assert left(tmp_path) == [writer[1]]
    assert remove_leftovers([writer[1]], age=0) == [writer[1]]


@pytest.mark.parametrize("name", [".a.jpg.deblur-00000000-0123456789abcdef.tmp", ".a.jpg.deblur-4711.tmp", ".a.tmp"])
def test_files_of_other_machines_and_other_names_stay_however_old_they_are(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    later(monkeypatch, 1e9)
    assert find_leftovers([tmp_path, tmp_path / "not there yet"]) == []


@posix
@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_what_only_has_the_name_of_a_leftover_is_left(tmp_path, monkeypatch, make):
    path = tmp_path / f".a.jpg.deblur-{HERE}-0123456789abcdef.tmp"
    make(path)
    later(monkeypatch, 1e9)
    assert path.is_fifo() or left(tmp_path) == [path]
    assert path.is_fifo() or os.path.lexists(path)


def test_what_may_not_be_removed_or_listed_is_left(tmp_path, monkeypatch):
    path = tmp_path / f".a.jpg.deblur-{HERE}-0123456789abcdef.tmp"
    path.touch()
    later(monkeypatch, 1e9)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert left(tmp_path) == [path]
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert left(tmp_path) == []


def test_two_writers_of_one_name_never_share_a_file_though_their_numbers_are_the_same(tmp_path):
    names = []

    def write(path):
        names.append(path.name)
        if len(names) < 50:
            put(tmp_path / "a.jpg", write)
        path.write_bytes(b"whole")

    put(tmp_path / "a.jpg", write)
    assert len(set(names)) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_leftover_tells_what_it_was_to_become(tmp_path):
    path = tmp_path / f".a.jpg.deblur-{HERE}-0123456789abcdef.tmp"
    assert is_leftover_of(path, tmp_path / "a.jpg")
    assert not is_leftover_of(path, tmp_path / "b.jpg")
    assert not is_leftover_of(path, tmp_path / "x/a.jpg")


def test_own_files_go_when_the_process_ends_at_once(tmp_path):
    def write(path):
        remove_own_files()
        assert list(tmp_path.iterdir()) == []
        path.touch()

    put(tmp_path / "a.jpg", write)
    assert not atomic.own_files


def test_another_host_has_another_name(monkeypatch):
    host.cache_clear()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    try:
        assert host() != HERE
    finally:
        host.cache_clear()
