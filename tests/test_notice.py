"""What comes from others is named, with hash and licence, and the name travels with the package."""

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deblur_cli.weights.manifest import read_shipped_manifest
from deblur_cli.weights.store import PACKAGE

ROOT = PACKAGE.parent
TEXT = (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_every_bundled_file_that_is_not_the_projects_own_stands_in_the_notice_with_its_hash():
    own = "trained by this project"
    theirs = [file for file in read_shipped_manifest().files.values() if file.path and not file.source.startswith(own)]
    assert {"lpips-alex", "lpips-vgg", "lpips-alex-backbone", "dists"} <= {file.key for file in theirs}
    for file in theirs:
        assert f"deblur_cli/{file.path}" in TEXT
        assert str(file.sha256) in TEXT


def test_every_file_that_the_notice_names_is_there_with_the_bytes_it_promises():
    named = re.findall(r"(deblur_cli/\S+?)\n\s+sha256 ([0-9a-f]{64})", TEXT)
    assert len(named) >= 3
    for path, sha256 in named:
        assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == sha256
    for licence in re.findall(r"deblur_cli/\S*LICENSE[.\w]*", TEXT):
        text = (ROOT / licence).read_text(encoding="utf-8")
        wanted = "Permission is hereby granted" if "dists" in licence else "Redistribution and use in source and binary"
        assert wanted in text


def test_wheel_and_source_archive_carry_the_notice_and_the_licences(tmp_path: Path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel, tarfile.open(next(tmp_path.glob("*.gz"))) as archive:
        in_wheel, in_archive = "\n".join(wheel.namelist()), "\n".join(archive.getnames())
    for name in (
        "NOTICE",
        "LICENSE",
        "deblur_cli/bundled/lpips/LICENSE.torchvision",
        "deblur_cli/bundled/dists/LICENSE",
    ):
        assert re.search(rf"^deblur_cli-[^/]+\.dist-info/licenses/{re.escape(name)}$", in_wheel, re.MULTILINE)
        assert re.search(rf"^deblur_cli-[^/]+/{re.escape(name)}$", in_archive, re.MULTILINE)
    for text in (in_wheel, in_archive):
        assert "deblur_cli/bundled/lpips/alexnet_features.safetensors" in text
