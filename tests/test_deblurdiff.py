"""DeblurDiff from photo to photo with tiny networks: one canvas of noise, published windows, the photo's colours."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from support.deblurdiff_factory import SMALL, TINY, build_network, build_reference, draw
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli import weights
from deblur_cli.backends.diffusion import DeblurDiffBackend, load_deblurdiff
from deblur_cli.conversion.deblurdiff_file import PICTURE_LAYERS
from deblur_cli.errors import BackendError, InputError, PhotoError, WeightsError
from deblur_cli.networks.deblurdiff import DeblurDiffConfig
from deblur_cli.restoration.colour_match import match_colours, measure_colours
from deblur_cli.restoration.contract import Enhancing, Order, Stopped, Watch
from deblur_cli.restoration.pipeline import quantize, restore_image
from deblur_cli.restoration.tiling import BellWindows
from deblur_cli.sampling.ddpm import sample_ddpm
from deblur_cli.system.files import hash_file

CPU = torch.device("cpu")


def assert_same_picture(found: Tensor, expected: Tensor) -> None:
    """Equal but for the rounding of kernels that add up in another order when the batch is larger."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert int(
        (quantize(found.clone(), np.dtype(np.uint8)) != quantize(expected.clone(), np.dtype(np.uint8))).sum()
    ) < (found.numel() * 1e-3)


def take_photo(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3): smooth shapes, another mean and contrast in each channel."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(3))
    smooth = functional.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)
    return (smooth * torch.tensor([200.0, 120.0, 60.0]) + torch.tensor([20.0, 60.0, 90.0])).byte().numpy()


@pytest.fixture(scope="module")
def backend() -> DeblurDiffBackend:
    return DeblurDiffBackend("tiny", build_network(), CPU, torch.float32, steps=2)


def enhance(backend: DeblurDiffBackend, photo: NDArray[np.generic], order: Order | None = None) -> Tensor:
    top = np.iinfo(photo.dtype).max
    estimate = torch.from_numpy(photo.astype(np.float32) / top)
    return backend.enhance(photo, estimate, order or Order())


class Pointwise(nn.Module):
    """Stands in for the networks; no value of its answers looks beyond its own place, so windows cannot show."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def set_dtype(self, dtype: torch.dtype) -> None:
        assert dtype == torch.float32

    def encode(self, pixels: Tensor) -> Tensor:
        self.seen.append(pixels)
        latents = functional.avg_pool2d(pixels, 8)
        return torch.cat((latents, latents.mean(dim=1, keepdim=True)), dim=1)

    def predict_noise(self, blurry: Tensor, x_t: Tensor, timestep: int) -> Tensor:
        return torch.tanh(x_t - blurry * (1 + timestep / 1000))

    def decode(self, latents: Tensor) -> Tensor:
        return functional.interpolate(latents[:, :3], scale_factor=8).tanh()


def pointwise_backend(steps: int = 3) -> DeblurDiffBackend:
    return DeblurDiffBackend("pointwise", Pointwise(), CPU, torch.float32, steps)  # type: ignore[arg-type]


def enhance_whole(photo: NDArray[np.uint8], steps: int, seed: int) -> Tensor:
    """What a pointwise network makes of a photo without any windows."""
    network, (height, width) = Pointwise(), photo.shape[:2]
    pixels = torch.from_numpy(photo).float().permute(2, 0, 1)[None] / 255
    padded = functional.pad(pixels, (0, -width % 64, 0, -height % 64))
    latents = network.encode(padded)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(latents.shape, generator=generator)
    restored = sample_ddpm(lambda x_t, t: network.predict_noise(latents, x_t, t), start, steps, generator)
    picture = (network.decode(restored)[0, :, :height, :width].permute(1, 2, 0) + 1) / 2
    flat, target = picture.double().flatten(0, 1), pixels[0].double().flatten(1).T
    spread, wanted = ((values.var(dim=0) + 1e-5).sqrt() for values in (flat, target))
    return (picture - flat.mean(dim=0)) / spread * wanted + target.mean(dim=0)


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (700, 520), (100, 64), (513, 30)])
def test_windows_leave_no_trace_of_where_they_lie(height: int, width: int) -> None:
    photo = take_photo(height, width)
    expected = enhance_whole(photo, 3, seed=7).float()
    torch.testing.assert_close(enhance(pointwise_backend(), photo, Order(seed=7)), expected, rtol=0, atol=1e-5)


def test_other_windows_would_give_the_same_picture() -> None:
    photo, other = take_photo(720, 1280), pointwise_backend()
    other.windows = BellWindows(512, 128)
    torch.testing.assert_close(enhance(other, photo), enhance(pointwise_backend(), photo), rtol=0, atol=1e-5)


def test_the_condition_is_the_photo_between_0_and_1_and_black_beyond_it() -> None:
    backend = pointwise_backend()
    photo = take_photo(100, 90)
    enhance(backend, photo)
    (seen,) = backend.module.seen
    assert seen.shape == (1, 3, 128, 128)
    assert torch.equal(seen[0, :, :100, :90], torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1))
    assert not seen[:, :, 100:].any()
    assert not seen[:, :, :, 90:].any()


@pytest.mark.parametrize(("tile", "batches"), [(1, [1] * 8), (512, [1] * 8), (1100, [4, 4]), (2048, [8])])
def test_the_tile_size_decides_how_many_windows_run_at_once(tile: int, batches: list[int]) -> None:
    backend = pointwise_backend()
    enhance(backend, take_photo(720, 1280), Order(tile=tile))
    assert [len(seen) for seen in backend.module.seen] == batches


def test_a_seed_is_a_picture_whatever_the_tile_size(backend: DeblurDiffBackend) -> None:
    photo = take_photo(60, 700)
    pictures = [enhance(backend, photo, Order(seed, tile)) for seed, tile in ((1, 512), (1, 1024), (2, 1024))]
    assert_same_picture(pictures[0], pictures[1])
    assert float((pictures[0] - pictures[2]).abs().mean()) > 0.01


@pytest.mark.slow
def test_a_seed_is_a_picture_at_1280x720_in_one_window_or_eight_at_once(backend: DeblurDiffBackend) -> None:
    photo = take_photo(720, 1280)
    pictures = [enhance(backend, photo, Order(seed=1, tile=tile)) for tile in (512, 1536)]
    assert pictures[0].isfinite().all()
    assert_same_picture(*pictures)


def test_a_picture_has_the_colours_of_the_photo(backend: DeblurDiffBackend) -> None:
    photo = take_photo(70, 120)
    picture = enhance(backend, photo)
    assert picture.shape == photo.shape
    for found, expected in zip(measure_colours(picture), measure_colours(photo), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float((picture - torch.from_numpy(photo) / 255).abs().mean()) > 0.01  # and is another one


def test_a_photo_of_16_bits_gives_what_its_8_bits_give(backend: DeblurDiffBackend) -> None:
    photo = take_photo(64, 128)
    deep = enhance(backend, photo.astype(np.uint16) * 257)
    torch.testing.assert_close(deep, enhance(backend, photo), rtol=0, atol=1e-5)


def test_the_pipeline_runs_both_stages(backend: DeblurDiffBackend) -> None:
    assert isinstance(backend, Enhancing)
    photo, told = take_photo(64, 128), []
    restored = restore_image(photo, backend, seed=4, watch=Watch(on_pixels=told.append))
    assert np.array_equal(restored, quantize(enhance(backend, photo, Order(seed=4)), photo.dtype))
    assert sum(told) == 64 * 128


def test_the_first_stage_is_the_photo_itself(backend: DeblurDiffBackend) -> None:
    tile = draw(1, 3, 512, 512)
    assert backend.restore(tile) is tile


def test_progress_adds_up_to_the_pixels_of_the_photo() -> None:
    told: list[int] = []
    enhance(pointwise_backend(), take_photo(300, 701), Order(watch=Watch(on_pixels=told.append)))
    assert sum(told) == 300 * 701
    assert min(told) >= 0
    assert len(told) == 3 + 2  # steps, encode and decode, both windows at once


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_the_work_stops_between_windows_when_asked(after: int) -> None:
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > after

    with pytest.raises(Stopped):
        enhance(pointwise_backend(), take_photo(300, 701), Order(tile=512, watch=Watch(stop=stop)))
    assert len(asked) == after + 1


@torch.inference_mode()
def test_windows_side_by_side_are_what_each_is_alone() -> None:
    network = build_network()
    blurry, x_t = draw(3, 4, 16, 24), draw(3, 4, 16, 24, seed=1)
    noise, sharpened = network(blurry, x_t, 300)
    for index in range(3):
        alone = network(blurry[index : index + 1], x_t[index : index + 1], 300)
        torch.testing.assert_close((noise[index : index + 1], sharpened[index : index + 1]), alone)
    assert torch.equal(network.predict_noise(blurry, x_t, 300), noise)


@torch.inference_mode()
def test_every_network_has_a_say_in_the_noise() -> None:
    blurry, x_t = draw(1, 4, 8, 8), draw(1, 4, 8, 8, seed=1)
    before = build_network().predict_noise(blurry, x_t, 300)
    for role in ("lkpn", "controlnet", "unet", "prompt"):
        network = build_network()
        for tensor in network.parts[role].state_dict().values():
            tensor.mul_(1.5)
        assert not torch.allclose(network.predict_noise(blurry, x_t, 300), before, atol=1e-4), role


@torch.inference_mode()
def test_training_starts_from_what_the_unet_alone_says() -> None:
    network = build_network()
    network.start_controlnet()
    blurry, x_t = draw(1, 4, 16, 8), draw(1, 4, 16, 8, seed=1)
    alone = network.unet(x_t, 300, network.prompt.embedding, return_dict=False)[0]
    assert torch.equal(network.predict_noise(blurry, x_t, 300), alone)
    down, middle = network.unet.down_blocks.state_dict(), network.controlnet.mid_block.state_dict()
    assert all(torch.equal(tensor, down[name]) for name, tensor in network.controlnet.down_blocks.state_dict().items())
    assert all(torch.equal(tensor, middle[name]) for name, tensor in network.unet.mid_block.state_dict().items())


def test_a_step_of_training_teaches_lkpn_and_controlnet_but_no_layer_for_a_picture() -> None:
    network = build_network()
    noise, sharpened = network(draw(2, 4, 8, 8), draw(2, 4, 8, 8, seed=1), torch.tensor([3, 800]))
    (noise.square().mean() + sharpened.square().mean()).backward()
    silent = {
        name
        for role in ("lkpn", "controlnet")
        for name, parameter in network.parts[role].named_parameters()
        if parameter.grad is None
    }
    assert silent == {*PICTURE_LAYERS}


def test_in_bfloat16_the_vae_and_all_between_the_networks_stay_float32() -> None:
    backend = DeblurDiffBackend("tiny", build_network(), CPU, torch.bfloat16, steps=2)
    formats = {role: next(iter(part.state_dict().values())).dtype for role, part in backend.module.parts.items()}
    low, full = torch.bfloat16, torch.float32
    assert formats == {"unet": low, "lkpn": low, "controlnet": low, "vae": full, "prompt": full}
    picture = enhance(backend, take_photo(64, 64))
    assert picture.dtype == full
    assert picture.isfinite().all()


def test_an_answer_that_is_not_finite_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pointwise, "predict_noise", lambda *_: torch.full((1, 4, 8, 8), torch.nan))
    with pytest.raises(PhotoError, match="not finite"):
        enhance(pointwise_backend(), take_photo(64, 64))


@pytest.mark.parametrize("steps", [0, 1, 1001])
def test_impossible_numbers_of_steps_are_refused_at_once(steps: int) -> None:
    with pytest.raises(InputError, match="2 to 1000"):
        pointwise_backend(steps)


def test_colours_are_matched_by_the_published_formula() -> None:
    picture, photo = draw(600, 40, 3) * torch.tensor([0.1, 0.3, 0.2]) + 0.4, take_photo(600, 40)
    target = torch.from_numpy(photo).double().flatten(0, 1) / 255
    flat = picture.double().flatten(0, 1)
    normal = (flat - flat.mean(dim=0)) / (flat.var(dim=0) + 1e-5).sqrt()
    expected = (normal * (target.var(dim=0) + 1e-5).sqrt() + target.mean(dim=0)).view(600, 40, 3).float()
    torch.testing.assert_close(match_colours(picture, photo), expected, rtol=1e-5, atol=1e-6)


def test_a_flat_picture_takes_the_mean_of_the_photo() -> None:
    photo = np.full((1, 1, 3), 51, np.uint8)
    torch.testing.assert_close(match_colours(torch.ones(1, 1, 3), photo), torch.full((1, 1, 3), 0.2))


Install = Callable[..., weights.ModelEntry]


@pytest.fixture
def install(own_home: Path) -> Install:
    """A manifest entry with these files."""

    def enter(config: DeblurDiffConfig, **paths: Path) -> weights.ModelEntry:
        files = {
            role: weights.WeightsFile(role, "MIT", "made here", path.stat().st_size, hash_file(path), local=str(path))
            for role, path in paths.items()
        }
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
        }
        return weights.ModelEntry("mine", "deblurdiff", "A test.", files, config=plain)

    return enter


def test_the_authors_checkpoint_is_converted_once_and_runs(install: Install, own_home: Path) -> None:
    path = own_home / "model.pth"
    torch.save(build_reference().state_dict(), path)
    entry = install(SMALL, checkpoint=path)
    first = load_deblurdiff(entry, CPU, "auto", steps=2)
    assert first.dtype == torch.float32
    parts = {part: part.stat().st_mtime_ns for part in (own_home / "home").rglob("*.safetensors")}
    assert len(parts) == 5
    again = load_deblurdiff(entry, CPU, "bfloat16", steps=2)
    assert again.dtype == torch.bfloat16
    assert {part: part.stat().st_mtime_ns for part in parts} == parts  # nothing was converted again
    photo = take_photo(64, 64)
    torch.testing.assert_close(enhance(again, photo), enhance(first, photo), rtol=0, atol=0.2)
    assert path.is_file()


def test_five_parts_make_a_model_too(install: Install, tmp_path: Path) -> None:
    network = build_network()
    paths = {role: tmp_path / f"{role}.safetensors" for role in network.parts}
    for role, part in network.parts.items():
        save_file(part.state_dict(), paths[role])
    loaded = load_deblurdiff(install(TINY, **paths), CPU, "float32", steps=2)
    for role, part in network.parts.items():
        torch.testing.assert_close(loaded.module.parts[role].state_dict(), part.state_dict(), rtol=0, atol=0)
    del paths["vae"]
    with pytest.raises(WeightsError, match="has no file vae; it needs those, or checkpoint alone"):
        load_deblurdiff(install(TINY, **paths), CPU, "float32")


def test_an_entry_with_a_strange_config_or_without_the_number_format_is_refused(install: Install) -> None:
    entry = install(TINY)
    with pytest.raises(WeightsError, match="its config is none of DeblurDiff"):
        load_deblurdiff(dataclasses.replace(entry, config={"width": 3}), CPU, "auto")
    with pytest.raises(BackendError, match="does not work in it"):
        load_deblurdiff(dataclasses.replace(entry, dtypes=("float32",)), CPU, "bfloat16")
    with pytest.raises(InputError, match="--steps 1"):
        load_deblurdiff(entry, CPU, "auto", steps=1)
