import os
import subprocess
import sys

from deblur_cli.leftovers import remove_dead_leftovers, remove_own_leftovers


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_only_temporary_files_of_dead_processes_go(tmp_path):
    other = f".b.jpg.deblur-{os.getppid()}.tmp"
    stale = f".a.jpg.deblur-{dead_pid()}.tmp"
    kept = [other, "a.jpg", ".a.jpg.tmp", "a.jpg.deblur-1.tmp", ".a.jpg.deblur-x.tmp"]
    touch(tmp_path, stale, *kept)
    assert remove_dead_leftovers([tmp_path, tmp_path / "not there yet"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_own_temporary_files_go_when_the_process_ends_at_once(tmp_path):
    touch(tmp_path, f".a.jpg.deblur-{os.getpid()}.tmp", f".b.jpg.deblur-{os.getppid()}.tmp")
    assert remove_own_leftovers([tmp_path]) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f".b.jpg.deblur-{os.getppid()}.tmp"]
