"""`deblur doctor`: what it finds sound, what it warns of, and what it calls broken."""

import importlib.metadata
import json
import os

import pytest
import torch

from deblur_cli import weights
from deblur_cli.commands import doctor_work
from deblur_cli.errors import WeightsError
from deblur_cli.weights.manifest import user_manifest_path


@pytest.fixture
def doctor(own_home, command, monkeypatch):
    """Status and lines of stdout; every shipped weights file counts as verified."""
    monkeypatch.setattr(doctor_work, "fetch", lambda file: file.path)

    def call(*arguments):
        status, out, err = command("doctor", *arguments)
        assert err == []
        return status, out

    return call


@pytest.fixture
def report(doctor):
    """What `deblur doctor --json` tells."""
    return lambda: json.loads("\n".join(doctor("--json")[1]))


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put the driver of an NVIDIA card that torch does not find, or none, in the place of this machine's."""

    def install(version):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        if version is not None:
            program = tmp_path / "bin" / "nvidia-smi"
            program.write_text(f"#!/bin/sh\necho {version}\n")
            program.chmod(0o755)

    return install


def test_a_sound_installation_is_told_section_by_section(doctor):
    status, lines = doctor()
    assert status == 0
    sections = [line for line in lines if not line.startswith(" ")]
    expected = ["deblur", "packages", "memory", "torch", "devices", "engines", "codecs", "cache", "weights"]
    assert [line for line in sections if not line.startswith("warning: ")] == [
        *expected,
        "all that deblur run needs is there",
    ]
    assert any(line.startswith("  cpu, threads ") for line in lines)


def test_json_is_one_object_with_the_same_facts(doctor):
    status, out = doctor("--json")
    report = json.loads("\n".join(out))
    assert (status, report["schema"], report["faults"]) == (0, 1, [])
    assert report["packages"]["torch"] == report["torch"]["version"]
    assert report["memory"]["total"] > 2**28
    assert {"jpeg", "png", "tiff", "webp", "avif", "heif", "raw"} <= set(report["codecs"])
    assert report["devices"][-1]["name"] == "cpu"
    assert "verified" in report["weights"].values()


def test_damaged_weights_are_a_fault_with_status_1(doctor, monkeypatch):
    def refuse(file):
        raise WeightsError(f"{file.path}: sha256 is wrong; reinstall deblur-cli")

    monkeypatch.setattr(doctor_work, "fetch", refuse)
    status, out = doctor()
    assert status == 1
    assert any(line.startswith("broken: bundled/") for line in out)
    assert "all that deblur run needs is there" not in out


@pytest.mark.skipif(os.name == "nt", reason="the driver's program is a shell script here")
@pytest.mark.parametrize(
    ("cuda", "version", "text"),
    [
        ("13.0", None, "CUDA 13.0 build of torch on a machine without GPU: about 5 GB that are not needed"),
        (None, "580.1", "an NVIDIA card is there (driver 580.1), but this torch is built for the CPU"),
        ("13.0", "470.1", "torch cannot use it; is driver 470.1 too old for CUDA 13.0?"),
        (None, None, None),
    ],
)
def test_a_torch_build_that_does_not_fit_the_machine_is_said_plainly(report, driver, monkeypatch, cuda, version, text):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    driver(version)
    warnings = [line for line in report()["warnings"] if "torchvision" not in line]
    assert (text in warnings[0]) if text else (warnings == [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # where torch finds a card, its build fits
    assert [line for line in report()["warnings"] if "torchvision" not in line] == []


def test_a_torchvision_of_another_torch_is_warned_of(report, monkeypatch, tmp_path):
    package = tmp_path / "found first" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    told = report()
    assert any("operator torchvision::nms does not exist" in line for line in told["warnings"])
    assert told["faults"] == []


def test_a_missing_package_is_a_fault_and_a_missing_extra_is_none(report, monkeypatch):
    real = importlib.metadata.version

    def find(name):
        if name in ("peft", "rawpy"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", find)
    told = report()
    assert (told["packages"]["peft"], told["packages"]["rawpy"]) == (None, None)
    assert told["faults"] == ["peft is not installed; reinstall deblur-cli"]


def test_a_manifest_that_cannot_be_read_is_a_fault(doctor):
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text("not toml")
    status, out = doctor()
    assert status == 1
    (line,) = [line for line in out if line.startswith("broken: ")]
    assert f"{user_manifest_path()}: your weights manifest cannot be read" in line


def test_the_size_of_the_cache_counts_files_once(report, own_home):
    assert report()["cache"]["size"] == 0
    blobs = own_home / "home/hub/blobs"
    blobs.mkdir(parents=True)
    (blobs / "one").write_bytes(b"x" * 100)
    (blobs.parent / "snapshot").symlink_to(blobs / "one")
    assert report()["cache"]["size"] == 100


def test_the_real_manifest_names_bundled_models():
    manifest = weights.read_manifest()
    assert {"standard", "best", "quick"} <= set(manifest.models)
    assert manifest.has_model("bundled")
    kinds = {file.kind for name in ("standard", "best", "quick") for file in manifest.models[name].files.values()}
    assert kinds == {"bundled"}
