"""Through how many files of the package one photo passes: who follows it must open them."""

import json
import subprocess
import sys

from support import walk
from support.photo_folders import photo


def test_one_photo_passes_through_few_files(tmp_path):
    source = photo(str(tmp_path / "a.jpg"))
    command = [sys.executable, walk.__file__, "run", str(source), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    passed = json.loads(done.stderr.splitlines()[-1])
    assert {"app.py", "batch/stages.py", "restoration/pipeline.py", "image_io/writing.py"} <= set(passed)
    assert len(passed) <= 63
    assert (tmp_path / "out/a.jpg").exists()
