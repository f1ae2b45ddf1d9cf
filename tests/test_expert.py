"""Experts from the manifest, from the file on the disk to the restored photo."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.nafnet_factory import TINY, build_lively, save_published
from torch import Tensor

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.checkpoint import save_network
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.image_io import read_photo
from deblur_cli.networks.experts import EXPERTS, ExpertKind
from deblur_cli.networks.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.needs import Expert, Needs
from deblur_cli.restoration.pipeline import restore_image

Install = Callable[..., None]

TINY_CONFIG = {
    "width": 8,
    "encoder_blocks": [1, 1, 1, 4],
    "middle_blocks": 1,
    "decoder_blocks": [1, 1, 1, 1],
    "train_size": 64,
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a file behind a model's name, as if the Hub had sent it; `changes` are those of the entry."""

    def install(path: Path, entry: weights.ModelEntry | None = None, **changes: Any) -> None:
        file = weights.WeightsFile(key="naf", licence="MIT", source="made here", sha256="ab" * 32, local=str(path))
        plain = weights.ModelEntry(
            "tiny-naf", "expert", "a test", {"expert": file}, network="nafnet", config=TINY_CONFIG
        )
        found = dataclasses.replace(entry or plain, **{"checkpoint_key": "params", **changes})
        monkeypatch.setattr(weights, "find_model", lambda name: found)
        monkeypatch.setattr(weights, "fetch", lambda file: weights.Fetched(path, "ab" * 32))

    return install


def photo(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 255, (9, 13, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def expect(network: NAFNet, blurry: np.ndarray) -> np.ndarray:
    """What a photo that fits into one tile must become, by the network alone."""
    return restore_image(blurry, ExpertBackend("direct", network, torch.device("cpu"), torch.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_published_checkpoint_becomes_a_backend(dtype: str, tmp_path: Path, install: Install) -> None:
    network = build_lively()
    install(save_published(network, tmp_path / "naf.pth"))
    backend = load_model("tiny-naf", device="cpu", dtype=dtype)
    assert backend.name == "tiny-naf"
    blurry = photo(75, 121)
    difference = restore_image(blurry, backend).astype(int) - expect(network, blurry)
    assert np.abs(difference).max() <= (0 if dtype == "float32" else 4)


def test_the_shipped_entry_of_nafnet_32_loads_a_checkpoint_of_the_real_shape(tmp_path: Path, install: Install) -> None:
    entry = weights.find_model("nafnet-32")
    network = build_lively(NAFNetConfig())
    path = save_published(network, tmp_path / "NAFNet-GoPro-width32.pth")
    assert abs(path.stat().st_size - 68_671_121) < 200_000  # the published file's size
    install(path, entry)
    backend = load_model("nafnet-32", device="cpu", dtype="float32")
    assert isinstance(backend.module, NAFNet)
    assert backend.module.config == NAFNetConfig()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in backend.module.state_dict().items())
    wide = weights.ModelEntry("n", "expert", "", entry.files, network="nafnet", config={**entry.config, "width": 64})
    install(path, wide)
    with pytest.raises(WeightsError, match="size mismatch"):
        load_model("nafnet-64", device="cpu")


def test_nafnet_restores_a_photo_from_the_command_line(tmp_path: Path, install: Install) -> None:
    network, blurry = build_lively(), photo(91, 133)
    install(save_published(network, tmp_path / "naf.pth"))
    Image.fromarray(blurry).save(tmp_path / "blurry.png")
    out = tmp_path / "out"
    command = ["run", str(tmp_path / "blurry.png"), "-o", str(out), "--model", "tiny-naf", "--device", "cpu"]
    assert run_app([*command, "--dtype", "float32", "--quiet"]) == 0
    restored = read_photo(out / "blurry.png").pixels
    assert np.array_equal(restored, expect(network, blurry))
    assert not np.array_equal(restored, blurry)


def test_nafnet_is_measured_like_every_model(
    tmp_path: Path, install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    network, blurry = build_lively(), photo(64, 80)
    install(save_published(network, tmp_path / "naf.pth"))
    for folder, pixels in (("blur", blurry), ("sharp", expect(network, blurry))):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "pairs" / folder / "a.png")
    options = ["--model", "tiny-naf", "--metrics", "psnr,ssim", "--device", "cpu", "--dtype", "float32"]
    assert run_app(["bench", str(tmp_path / "pairs"), *options, "--json", "--quiet"]) == 0
    untouched, restored = json.loads(capfd.readouterr().out)["models"]
    assert untouched["scores"]["psnr"] < 40
    assert restored["scores"] == {"psnr": "Infinity", "ssim": 1.0}  # the truth was made by this network
    assert restored["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert restored["macs_per_megapixel"] > 1e9


def test_a_config_may_stand_in_the_file_itself(tmp_path: Path, install: Install) -> None:
    path = tmp_path / "naf.safetensors"
    save_network(build_lively(), path, {"config": TINY_CONFIG})
    install(path, config={}, checkpoint_key=None)
    backend = load_model("tiny-naf", device="cpu")
    assert isinstance(backend.module, NAFNet)
    assert backend.module.config == TINY


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": "resnet"}, "unknown network 'resnet'; known are dense_unet, nafnet"),
        ({"config": {**TINY_CONFIG, "depth": 3}}, "its config is none of the network nafnet"),
        ({"config": {**TINY_CONFIG, "decoder_blocks": [1]}}, "its config is none of the network nafnet"),
        ({"config": {**TINY_CONFIG, "width": "8"}}, "its config is none of the network nafnet"),
        ({"network": "dense_unet"}, "its config is none of the network dense_unet"),
        ({"config": {**TINY_CONFIG, "encoder_blocks": [1, 1, 1, 3]}}, "weights do not fit"),
        ({"checkpoint_key": "params_ema"}, "no table 'params_ema', but params"),
        ({"tiling": {"sise": 3}}, "its tiling is none"),
    ],
)
def test_an_entry_that_does_not_fit_its_file_is_one_line(
    changes: Mapping[str, Any], text: str, tmp_path: Path, install: Install
) -> None:
    install(save_published(build_lively(), tmp_path / "naf.pth"), **changes)
    with pytest.raises(WeightsError) as caught:
        load_model("tiny-naf", device="cpu")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tiling_of_the_entry_wins_as_far_as_it_can_move_forward(tmp_path: Path, install: Install) -> None:
    path = save_published(build_lively(), tmp_path / "naf.pth")
    install(path, tiling={"size": 512, "context": 64, "feather": 16})
    tiling = load_model("tiny-naf", device="cpu").tiling
    assert (tiling.size, tiling.context, tiling.feather, tiling.multiple_of) == (512, 64, 16, 16)
    install(path, tiling={"size": 20})
    assert load_model("tiny-naf", device="cpu").tiling.size >= 2 * 48 + 32 + 16


def test_number_formats_that_the_entry_rules_out_are_not_used(tmp_path: Path, install: Install) -> None:
    install(save_published(build_lively(), tmp_path / "naf.pth"), dtypes=("float32",))
    assert load_model("tiny-naf", device="cpu", dtype="auto").dtype == torch.float32
    with pytest.raises(BackendError, match="--dtype bfloat16: this network does not work in it; use float32"):
        load_model("tiny-naf", device="cpu", dtype="bfloat16")


def test_number_formats_that_the_network_rules_out_are_not_used_unless_the_entry_says_so(
    tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NAFNetConfig, "needs", Needs(16, context=48, dtypes=("float32",)))
    path = save_published(build_lively(), tmp_path / "naf.pth")
    install(path)
    assert load_model("tiny-naf", device="cpu", dtype="auto").dtype == torch.float32
    with pytest.raises(BackendError, match="--dtype bfloat16: this network does not work in it; use float32"):
        load_model("tiny-naf", device="cpu", dtype="bfloat16")
    install(path, dtypes=("float32", "bfloat16"))
    assert load_model("tiny-naf", device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@dataclasses.dataclass(frozen=True, slots=True)
class ShadeConfig:
    """Of a network that sees windows of 32 pixels only."""

    windows: tuple[int, ...] = (32,)

    @property
    def needs(self) -> Needs:
        return Needs(8, context=0, window=self.windows[0], smallest_window=16, shared=8, dtypes=("float32",))


class Shade(Expert):
    """Takes half of the brightness away."""

    def __init__(self, config: ShadeConfig) -> None:
        super().__init__(config)
        self.share = torch.nn.Parameter(torch.tensor([0.5]))

    def predict_residual(self, blurry: Tensor) -> Tensor:
        assert blurry.shape[2:] in ((32, 32), (16, 16))
        return -self.share * blurry


def test_another_network_is_one_row(tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERTS, "shade", ExpertKind(Shade, ShadeConfig))  # type: ignore[arg-type]
    path = tmp_path / "shade.safetensors"
    save_network(Shade(ShadeConfig()), path, {"network": "shade", "config": dataclasses.asdict(ShadeConfig())})
    install(path, checkpoint_key=None, config={})
    backend = load_model("tiny-naf", device="cpu")
    assert backend.dtype == torch.float32
    for size in ((9, 13), (75, 121)):
        blurry = photo(*size)
        assert np.abs(restore_image(blurry, backend) - blurry / 2).max() <= 0.51
