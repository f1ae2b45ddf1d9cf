"""`--expert`: a name, a file of ours, or one for spandrel where it is installed, and one clear line elsewhere."""

import hashlib
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.export_factory import write_codec, write_expert
from support.hub_user import use_empty_home
from support.nafnet_factory import TINY, build_lively, save_published
from support.runs_code import RunsCode
from torch import Tensor, nn

from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.backends.foreign import ForeignBackend, read_tiling
from deblur_cli.image_io import read_photo
from deblur_cli.weights.model_spec import ModelSpec, resolve

CPU = torch.device("cpu")
Deblur = Callable[..., tuple[int, str]]


class UnsupportedModelError(Exception):
    """Has no message, like spandrel's."""


@dataclass
class Sizes:
    minimum: int = 0
    multiple_of: int = 1


@dataclass
class Descriptor:
    """What this project uses of spandrel's class of that kind: halves the brightness, by one weight."""

    model: nn.Module
    architecture: Any = field(default_factory=lambda: types.SimpleNamespace(name="Halving"))
    purpose: str = "Restoration"
    scale: int = 1
    input_channels: int = 3
    output_channels: int = 3
    supports_bfloat16: bool = True
    size_requirements: Sizes = field(default_factory=Sizes)
    tiling: Any = field(default_factory=lambda: types.SimpleNamespace(name="SUPPORTED"))

    def __call__(self, image: Tensor) -> Tensor:
        restored: Tensor = self.model(image)
        return restored

    def eval(self) -> "Descriptor":
        self.model.eval()
        return self

    def to(self, **where: Any) -> "Descriptor":
        self.model.to(**where)
        return self


class FakeLoader:
    """Knows one network, a 1x1 convolution."""

    changes: dict[str, Any] = {}  # noqa: RUF012  # the tests set it

    def __init__(self, device: str) -> None:
        assert device == "cpu"

    def load_from_state_dict(self, tensors: dict[str, Tensor]) -> Descriptor:
        if "weight" not in tensors:
            raise UnsupportedModelError
        network = nn.Conv2d(3, 3, 1, bias=False)
        network.load_state_dict(tensors, strict=True)
        return Descriptor(network, **self.changes)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_empty_home(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 24), (200, 100, 50)).save("a.png")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeLoader]:
    """spandrel with a single architecture."""
    module = types.ModuleType("spandrel")
    known = [types.SimpleNamespace(architecture=types.SimpleNamespace(name=name)) for name in ("Uformer", "FFTformer")]
    vars(module).update(
        ModelLoader=FakeLoader,
        MAIN_REGISTRY=known,
        UnsupportedModelError=UnsupportedModelError,
        canonicalize_state_dict=lambda content: content.get("params", content),
    )
    monkeypatch.setitem(sys.modules, "spandrel", module)
    monkeypatch.setattr(FakeLoader, "changes", {})
    return FakeLoader


@pytest.fixture
def deblur(capfd: pytest.CaptureFixture[str]) -> Deblur:
    """`deblur run a.png -o out …`: its status, and its one line on stderr."""

    def call(*arguments: str) -> tuple[int, str]:
        status = run_app(["run", "a.png", "-o", "out", "--device", "cpu", "--quiet", *arguments])
        error = capfd.readouterr().err
        assert error.count("\n") <= 1
        return status, error.strip()

    return call


def halving(name: str = "half.pth", **more: Tensor) -> Path:
    torch.save({"params": {"weight": 0.5 * torch.eye(3)[:, :, None, None], **more}}, name)
    return Path(name)


def pixel(path: str = "out/a.png") -> list[int]:
    return [int(value) for value in read_photo(Path(path)).pixels[5, 5]]


@pytest.mark.usefixtures("fake")
def test_a_checkpoint_restores_a_photo_and_its_hash_is_in_the_stamp(
    deblur: Deblur, capfd: pytest.CaptureFixture[str]
) -> None:
    path = halving()
    assert deblur("--expert", str(path)) == (0, "")
    assert pixel() == [100, 50, 25]
    capfd.readouterr()
    assert run_app(["run", "a.png", "-o", "out2", "--expert", str(path), "--device", "cpu", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["model"]
    assert told == {"name": "half", "weights": {"expert": hashlib.sha256(path.read_bytes()).hexdigest()}}


@pytest.mark.usefixtures("fake")
def test_another_checkpoint_of_the_same_name_is_another_recipe(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["run", "a.png", "-o", "out", "--device", "cpu", "--expert", str(halving())]
    assert [run_app(command), run_app(command)] == [0, 0]
    assert "nothing left to do" in capfd.readouterr().err
    torch.save({"params": {"weight": torch.eye(3)[:, :, None, None]}}, "half.pth")
    assert run_app(command) == 0
    assert pixel() == [200, 100, 50]


@pytest.mark.usefixtures("fake")
def test_expert_and_model_exclude_each_other_unless_one_is_only_in_the_environment(
    deblur: Deblur, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(halving())
    status, error = deblur("--expert", path, "--model", "bundled-expert")
    assert (status, error) == (2, "deblur: error: --expert and --model exclude each other")
    monkeypatch.setenv("DEBLUR_MODEL", "no-such-model")
    assert deblur("--expert", path) == (0, "")
    monkeypatch.setenv("DEBLUR_EXPERT", path)
    assert deblur()[0] == 1
    monkeypatch.setenv("DEBLUR_MODEL", "bundled-expert")
    assert deblur()[0] == 2
    monkeypatch.delenv("DEBLUR_MODEL")
    assert deblur() == (0, "")
    assert "no-such-model" in deblur("--model", "no-such-model")[1]


def test_a_missing_file_is_named_before_anything_is_loaded(deblur: Deblur) -> None:
    nothing = "deblur: error: --expert none.pth: no such file, and no model; see 'deblur weights list'"
    assert deblur("--expert", "none.pth") == (2, nothing)
    Path("folder.pth").mkdir()
    assert "--expert folder.pth: Is a directory, and no model" in deblur("--expert", "folder.pth")[1]
    assert "--expert quick+flow: is no expert alone" in deblur("--expert", "quick+flow")[1]


def test_a_file_that_was_trained_here_needs_no_spandrel(
    deblur: Deblur, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    Path("runs").mkdir()
    path = Path("runs/expert.safetensors")
    write_expert(path)
    assert deblur("--expert", str(path), "--dtype", "float32", "--tile", "64") == (0, "")
    assert run_app(["weights", "add", "mine", str(path)]) == 0
    assert run_app(["run", "a.png", "-o", "named.png", "--model", "mine", "--device", "cpu", "--dtype", "float32"]) == 0
    assert np.array_equal(read_photo(Path("out/a.png")).pixels, read_photo(Path("named.png")).pixels)
    capfd.readouterr()
    assert run_app(["run", "a.png", "-o", "told.png", "--expert", str(path), "--device", "cpu", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["model"]
    assert told == {"name": "expert", "weights": {"expert": hashlib.sha256(path.read_bytes()).hexdigest()}}


def test_another_file_that_was_trained_here_is_refused_in_one_line(deblur: Deblur) -> None:
    write_codec(Path("codec.safetensors"), {})
    status, error = deblur("--expert", "codec.safetensors")
    assert status == 1
    assert error.startswith("deblur: error: codec.safetensors: its config is none of the network dense_unet")


def test_the_name_of_an_expert_is_the_model_of_that_name(deblur: Deblur, capfd: pytest.CaptureFixture[str]) -> None:
    assert deblur("--expert", "bundled-expert") == (0, "")
    assert run_app(["run", "a.png", "-o", "out", "--model", "quick", "--device", "cpu"]) == 0
    assert "nothing left to do" in capfd.readouterr().err


def test_another_expert_also_takes_the_place_of_the_blend() -> None:
    own, other = (resolve(ModelSpec("shake+flow", expert=expert)) for expert in (None, "best"))
    assert list(own.hashes) == ["expert", "blend", "codec", "base", "lora"]
    assert list(other.hashes) == ["expert", "codec", "base", "lora"]
    assert other.hashes["expert"] == resolve("best").hashes["expert"]


@pytest.mark.usefixtures("fake")
def test_a_malicious_or_strange_file_is_refused(deblur: Deblur) -> None:
    torch.save({"params": RunsCode(Path("witness"))}, "bad.pth")
    status, error = deblur("--expert", "bad.pth")
    assert status == 1
    assert "could run code" in error
    assert not Path("witness").exists()
    torch.save({"params": {"other": torch.eye(3)}}, "other.pth")
    assert "spandrel does not know; it knows FFTformer, Uformer" in deblur("--expert", "other.pth")[1]
    assert "does not fit" in deblur("--expert", str(halving(bias=torch.zeros(3))))[1]
    torch.save({"params": {"weight": torch.zeros(1).expand(3, 3, 5000, 5000)}}, "huge.pth")
    assert "claim 0.9 GB" in deblur("--expert", "huge.pth")[1]
    Path("a.onnx").touch()
    assert "not a weights file" in deblur("--expert", "a.onnx")[1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scale": 4}, "4x, 3 channels to 3"),
        ({"input_channels": 1, "output_channels": 1}, "1x, 1 channels to 1"),
        ({"purpose": "Inpainting", "input_channels": 4}, "Halving is for Inpainting"),
    ],
)
def test_only_networks_from_photo_to_photo_are_accepted(
    changes: dict[str, Any], text: str, fake: type[FakeLoader], deblur: Deblur
) -> None:
    fake.changes = changes
    status, error = deblur("--expert", str(halving()))
    assert status == 1
    assert text in error


def test_number_formats_come_from_the_descriptor_and_auto_is_exact(fake: type[FakeLoader], deblur: Deblur) -> None:
    path = halving()
    assert load_model(path, device="cpu").dtype == torch.float32
    assert load_model(path, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    fake.changes = {"supports_bfloat16": False}
    status, error = deblur("--expert", str(path), "--dtype", "bfloat16")
    assert (status, error) == (1, "deblur: error: --dtype bfloat16: this network does not work in it; use float32")


@pytest.mark.parametrize(("kind", "size"), [("SUPPORTED", 1024), ("DISCOURAGED", 2048), ("INTERNAL", 2048)])
@pytest.mark.parametrize(("multiple", "grid"), [(1, 16), (8, 16), (128, 128), (7, 112)])
def test_tiles_are_cut_as_the_descriptor_says(kind: str, size: int, multiple: int, grid: int) -> None:
    asked = Descriptor(nn.Identity(), size_requirements=Sizes(0, multiple), tiling=types.SimpleNamespace(name=kind))
    tiling = read_tiling(asked, CPU)
    assert tiling.multiple_of == grid
    assert size - grid < tiling.size <= size


def test_a_tile_that_overflows_in_bfloat16_is_computed_again_in_float32() -> None:
    class Overflowing(nn.Module):
        def forward(self, blurry: Tensor) -> Tensor:
            return blurry * (torch.inf if torch.is_autocast_enabled("cpu") else 1)

    backend = ForeignBackend("test", Descriptor(Overflowing()), CPU, torch.bfloat16)
    blurry = torch.rand(1, 3, 16, 16)
    assert torch.equal(backend.restore(blurry), blurry)


def test_without_spandrel_the_line_says_what_to_install(deblur: Deblur, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)  # import fails as if it were not there
    expected = "deblur: error: --expert: spandrel is not installed; pip install 'deblur-cli[spandrel]'"
    assert deblur("--expert", str(halving())) == (1, expected)


@pytest.mark.parametrize(
    ("torchvision", "text"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms does not exist"),
        ("raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')", "No module named"),
    ],
)
def test_a_broken_torchvision_is_named_and_the_core_goes_on(
    torchvision: str, text: str, deblur: Deblur, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, code in (("torchvision", torchvision), ("spandrel", "import torchvision")):
        package = tmp_path / "site" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    status, error = deblur("--expert", str(halving()))
    assert status == 1
    assert f"spandrel needs a torchvision built for torch {torch.__version__} (" in error
    assert text in error
    assert deblur("--dry-run")[0] == 0
    assert not {"torchvision", "spandrel"} & set(sys.modules)


@pytest.mark.usefixtures("spandrel")
def test_spandrel_runs_a_nafnet_end_to_end(deblur: Deblur) -> None:
    network = build_lively(TINY)
    photo = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)  # less than a window: local is global
    Image.fromarray(photo).save("a.png")
    assert deblur("--expert", str(save_published(network, Path("naf.pth")))) == (0, "")
    blurry = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = (network(blurry).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(read_photo(Path("out/a.png")).pixels - expected).max() <= 1
    torch.save({"params": {"other": torch.eye(3)}}, "other.pth")
    error = deblur("--expert", "other.pth")[1]
    assert all(name in error for name in ("NAFNet", "FFTformer", "Uformer", "KBNet"))


@pytest.mark.usefixtures("spandrel")
def test_spandrel_takes_bfloat16_by_products_only() -> None:
    path, blurry = save_published(build_lively(TINY), Path("naf.pth")), torch.rand(1, 3, 48, 64)
    exact, fast = (load_model(path, device="cpu", dtype=name).restore(blurry) for name in ("float32", "bfloat16"))
    assert -10 * torch.log10((exact - fast).square().mean()) > 50
