import json

import pytest

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.commands import doctor_work as diagnosis
from deblur_cli.commands.doctor_work import Diagnosis
from deblur_cli.errors import WeightsError


@pytest.fixture
def doctor(monkeypatch, capfd):
    """Status, stdout and stderr; every shipped weights file counts as verified."""
    monkeypatch.setattr(diagnosis, "fetch", lambda file: file.path)

    def call(*arguments):
        status = run_app(["doctor", *arguments])
        return status, *capfd.readouterr()

    return call


def test_a_sound_installation_is_told_section_by_section(doctor):
    status, out, err = doctor()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    sections = [line for line in lines if not line.startswith(" ")]
    expected = ["deblur", "packages", "memory", "torch", "devices", "engines", "codecs", "cache", "weights"]
    assert [line for line in sections if not line.startswith("warning: ")] == [
        *expected,
        "all that deblur run needs is there",
    ]
    assert any(line.startswith("  cpu, threads ") for line in lines)


def test_json_is_one_object_with_the_same_facts(doctor):
    status, out, _ = doctor("--json")
    report = json.loads(out)
    assert (status, report["schema"], report["faults"]) == (0, 1, [])
    assert report["packages"]["torch"] == report["torch"]["version"]
    assert report["memory"]["total"] > 2**28
    assert {"jpeg", "png", "tiff", "webp", "avif", "heif", "raw"} <= set(report["codecs"])
    assert report["devices"][-1]["name"] == "cpu"
    assert "verified" in report["weights"].values()


def test_damaged_weights_are_a_fault_with_status_1(doctor, monkeypatch):
    def refuse(file):
        raise WeightsError(f"{file.path}: sha256 is wrong; reinstall deblur-cli")

    monkeypatch.setattr(diagnosis, "fetch", refuse)
    status, out, _ = doctor()
    assert status == 1
    assert "broken: bundled/" in out
    assert "all that deblur run needs is there" not in out


@pytest.mark.parametrize(
    ("build", "driver", "text"),
    [
        ("CUDA 13.0", None, "CUDA 13.0 build of torch on a machine without GPU: about 5 GB that are not needed"),
        ("CPU", "580.1", "an NVIDIA card is there (driver 580.1), but this torch is built for the CPU"),
        ("CUDA 13.0", "470.1", "torch cannot use it; is driver 470.1 too old for CUDA 13.0?"),
        ("CPU", None, None),
    ],
)
def test_a_torch_build_that_does_not_fit_the_machine_is_said_plainly(monkeypatch, build, driver, text):
    monkeypatch.setattr(diagnosis, "_nvidia_driver", lambda: driver)
    found = Diagnosis()
    diagnosis._judge_build(found, build, has_card=False)
    assert (text in found.warnings[0]) if text else (found.warnings == [])
    found = Diagnosis()
    diagnosis._judge_build(found, build, has_card=True)
    assert found.warnings == []


def test_a_torchvision_of_another_torch_is_warned_of(monkeypatch, tmp_path):
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = Diagnosis()
    diagnosis._look_at_torchvision(found)
    assert "operator torchvision::nms does not exist" in found.warnings[0]
    assert found.faults == []


def test_a_missing_package_is_a_fault_and_a_missing_extra_is_none(monkeypatch):
    def find(name):
        if name in ("peft", "rawpy"):
            raise diagnosis.importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(diagnosis.importlib.metadata, "version", find)
    found = Diagnosis()
    versions = diagnosis._package_versions(found)
    assert (versions["peft"], versions["rawpy"]) == (None, None)
    assert found.faults == ["peft is not installed; reinstall deblur-cli"]


def test_a_manifest_that_cannot_be_read_is_a_fault(monkeypatch):
    def refuse():
        raise WeightsError("weights_manifest.toml: the weights manifest is damaged")

    monkeypatch.setattr(diagnosis, "read_manifest", refuse)
    found = Diagnosis()
    assert dict(diagnosis._verify_weights(found)) == {}
    assert found.faults == ["weights_manifest.toml: the weights manifest is damaged"]


def test_the_size_of_the_cache_counts_files_once(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "one").write_bytes(b"x" * 100)
    (tmp_path / "snapshot").symlink_to(tmp_path / "blobs" / "one")
    assert diagnosis._folder_size(tmp_path) == 100
    assert diagnosis._folder_size(tmp_path / "none") == 0


def test_the_real_manifest_names_bundled_models():
    manifest = weights.read_manifest()
    assert {"standard", "best", "quick"} <= set(manifest.models)
    assert manifest.has_model("bundled")
    kinds = {file.kind for name in ("standard", "best", "quick") for file in manifest.models[name].files.values()}
    assert kinds == {"bundled"}
