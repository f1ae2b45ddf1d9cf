"""The dual expert: what the flow adds to an estimate, whatever the tiles, and what keeps it from doing harm."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deblur_process import run_python
from safetensors.torch import save_file
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.backends import load_model
from deblur_cli.backends.contract import Enhancing, Order, Stopped, Watch
from deblur_cli.backends.dual_expert import DualExpertBackend, Parts
from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.backends.passes import Passes
from deblur_cli.backends.tiled_codec import Canvas, Source, TiledCodec, find_context
from deblur_cli.errors import BackendError, InputError, PhotoError, WeightsError
from deblur_cli.flow_settings import FlowSettings
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig, LoraSettings
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.pipeline import restore_image
from deblur_cli.tiling import Tiling
from deblur_cli.weights import ModelEntry, WeightsFile, hash_file

CPU = torch.device("cpu")
CHANNELS, WINDOW = 4, 8  # latents; a window is 64 pixels wide
PLAIN = FlowSettings(keep_low=False, guard=False)
Field = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Flow(nn.Module):
    """A field of one line, in the place of a transformer."""

    def __init__(self, field: Field, *, is_widened: bool = False) -> None:
        super().__init__()
        self.config = SimpleNamespace(window=WINDOW, channels=CHANNELS, multiple_of=2)
        self.field, self.is_widened = field, is_widened
        self.batches: list[int] = []

    def forward(self, x_t: Tensor, t: Tensor, blurry: Tensor | None = None) -> Tensor:
        assert x_t.shape[1:] == (CHANNELS, WINDOW, WINDOW) and t.shape == x_t.shape[:1]
        self.batches.append(len(x_t))
        return self.field(x_t, t, blurry)


@dataclass
class Half:
    """An expert that halves the brightness: tiles do not show in what it makes."""

    name: str = "half"
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    tiling: Tiling = field(default_factory=lambda: Tiling(128, 16, 16, 16))
    module: nn.Module = field(default_factory=lambda: nn.Linear(2, 1))

    def restore(self, blurry: Tensor) -> Tensor:
        return blurry / 2


def stand_still(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
    return torch.zeros_like(x_t)


def wander(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
    """Depends on all of the window, on the time and on the place in the window."""
    row = torch.linspace(-1, 1, WINDOW)
    mean = x_t.mean((1, 2, 3), keepdim=True)
    return torch.sin(3 * x_t) + mean + t[:, None, None, None] * row + (0 if blurry is None else 0.5 * blurry)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of any size that leaves the signal its size, so that every layer counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.02 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.normal_(0, scale, generator=generator)
    return network.eval()


def build_codec(seed: int = 0) -> ResidualCodec:
    config = ResidualCodecConfig(channels=CHANNELS, widths=(8, 12), encoder_blocks=(1, 2), decoder_blocks=(2, 1))
    codec = lively(ResidualCodec(config), seed)
    assert isinstance(codec, ResidualCodec)
    with torch.no_grad():
        codec.decoder.head[0].weight.mul_(0.1)
    return codec


def build(flow: Any = None, expert: Any = None, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    parts = Parts(expert, build_codec(), flow or Flow(wander))
    return DualExpertBackend("dual", parts, replace(PLAIN, **settings), CPU, dtype)


def photo(height: int = 150, width: int = 203, dtype: type = np.uint8, seed: int = 3) -> np.ndarray:
    """Smooth blobs with some noise: sharp enough for a codec to see something."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    pixels = 0.8 * coarse + 0.2 * generator.random((height, width, 3))
    return (pixels * np.iinfo(dtype).max).astype(dtype)


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def quiet(pixels: int) -> Passes:
    return Passes(Watch(), pixels, 1)


# --- the codec over a whole photo ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [16, 160, 200, 264])
@pytest.mark.parametrize(("height", "width"), [(304, 336), (299, 330), (130, 336)])
def test_latents_and_residuals_of_tiles_are_those_of_the_photo_in_one_piece(tile: int, height: int, width: int) -> None:
    codec, canvas = TiledCodec(build_codec(), CPU, torch.float32), Canvas(-(-height // 16) * 2, -(-width // 16) * 2)
    source = Source(photo(height, width))
    whole = source.cut(slice(0, canvas.height * 8), slice(0, canvas.width * 8))[None]
    with torch.inference_mode():
        latents = codec.encode(source, canvas, tile, quiet(1))
        expected = codec.module.encode(whole)
        assert (latents - expected).abs().max() <= 1e-5
        change = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        residual = codec.decode(change, source, tile, quiet(1))
        assert (residual - codec.module.decode(change, whole)[0, :, :height, :width]).abs().max() <= 1e-5
    assert expected.std() > 0.1 and residual.std() > 0.01


@pytest.mark.parametrize(("encoder", "decoder"), [((2, 2), (2, 2)), ((1, 3), (4, 1)), ((0, 1), (1, 0))])
def test_the_context_is_all_that_a_network_sees_and_no_more(encoder: tuple[int, int], decoder: tuple[int, int]) -> None:
    config = ResidualCodecConfig(4, (8, 8), encoder, decoder)
    codec, context = lively(ResidualCodec(config)).double(), find_context(config)
    size = 2 * context + 3
    image = torch.rand(1, 3, 8 * size, 8 * size, dtype=torch.float64, requires_grad=True)
    change = torch.randn(1, 4, size, size, dtype=torch.float64, requires_grad=True)
    codec.encode(image)[..., context + 1, context + 1].sum().backward()
    seen = image.grad[0].abs().sum((0, 1)).nonzero() // 8
    middle = slice(8 * (context + 1), 8 * (context + 2))
    image.grad = None
    codec.decode(change, image)[..., middle, middle].sum().backward()
    decoded = [change.grad[0].abs().sum((0, 1)).nonzero(), image.grad[0].abs().sum((0, 1)).nonzero() // 8]
    reach = max(int((context + 1 - places.min()).item()) for places in (seen, *decoded))
    assert reach == context


def test_a_source_repeats_its_border_and_keeps_its_depth() -> None:
    deep = photo(10, 12, np.uint16)
    cut = Source(deep).cut(slice(-2, 14), slice(8, 20))
    assert cut.shape == (3, 16, 12)
    assert torch.equal(cut[:, 0, 0], torch.from_numpy(deep[0, 8] / np.float32(65535)))
    assert torch.equal(cut[:, -1, -1], torch.from_numpy(deep[-1, -1] / np.float32(65535)))


# --- the estimate and what is added -------------------------------------------------------------------------------


def test_it_is_a_backend_with_a_second_stage() -> None:
    assert isinstance(build(), Enhancing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_strength_0_the_picture_is_the_experts_to_the_bit(dtype: torch.dtype) -> None:
    network = lively(DenseUNet(DenseUNetConfig(4, (8, 12), (1, 1), (1,))))
    assert isinstance(network, DenseUNet)
    expert = ExpertBackend("expert", network, CPU, dtype, Tiling(96, 16, 16, 16))
    blurry = photo(dtype=np.uint16)
    alone = restore_image(blurry, expert)
    assert np.array_equal(restore_image(blurry, build(expert=expert, dtype=dtype, strength=0.0)), alone)
    assert not np.array_equal(restore_image(blurry, build(expert=expert, dtype=dtype, strength=0.1)), alone)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_flow_that_stands_still_gives_exactly_the_estimate(steps: int) -> None:
    blurry = photo(dtype=np.uint16)
    backend = build(Flow(stand_still), Half(), steps=steps, keep_low=True, guard=True)
    assert np.array_equal(restore_image(blurry, backend), restore_image(blurry, Half()))


def test_without_an_expert_the_flow_starts_from_the_photo_as_taken() -> None:
    blurry = photo(dtype=np.uint16)
    assert np.array_equal(restore_image(blurry, build(Flow(stand_still))), blurry)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_constant_velocity_adds_what_the_codec_decodes_of_it(steps: int) -> None:
    velocity = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(5))[:, None, None]
    backend = build(Flow(lambda x_t, t, blurry: velocity.expand_as(x_t)), Half(), steps=steps, strength=0.5)
    blurry = photo(96, 112)
    estimate = torch.from_numpy(blurry / np.float32(255)) / 2  # (H, W, 3)
    codec, source = build_codec(), estimate.permute(2, 0, 1)[None]
    with torch.inference_mode():
        residual = codec.decode(velocity.expand(CHANNELS, 12, 14)[None].clone(), source)[0].permute(1, 2, 0)
        expected = estimate + 0.5 * residual
        restored = backend.enhance(blurry, estimate.clone(), Order())
    assert residual.std() > 0.02
    assert (restored - expected).abs().max() <= 1e-5


def test_the_decoder_gets_the_difference_to_the_clean_start_never_the_noise_alone() -> None:
    """A flow that leads from the noisy start back to the clean one gives the estimate."""
    blurry = photo(64, 64, np.uint16)
    with torch.inference_mode():
        clean = build_codec().encode(torch.from_numpy(blurry / np.float32(65535)).permute(2, 0, 1)[None])
    back = Flow(lambda x_t, t, _: (clean - x_t) / (1 - t[:, None, None, None]))
    assert levels_apart(restore_image(blurry, build(back, start_noise=0.3)), blurry) <= 2
    assert levels_apart(restore_image(blurry, build(Flow(stand_still), start_noise=0.3)), blurry) > 300


def test_the_blurry_photo_is_shown_to_a_widened_flow_only() -> None:
    blurry, seen = photo(64, 64), []

    def remember(x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        seen.append(condition)
        return torch.zeros_like(x_t)

    restore_image(blurry, build(Flow(remember), Half(), steps=1))
    restore_image(blurry, build(Flow(remember, is_widened=True), Half(), steps=1))
    with torch.inference_mode():
        expected = build_codec().encode(torch.from_numpy(blurry / np.float32(255)).permute(2, 0, 1)[None])
    assert seen[0] is None
    assert (seen[1] - expected).abs().max() <= 1e-5


# --- what must not matter -----------------------------------------------------------------------------------------


def test_tiles_and_batches_change_no_pixel_by_more_than_one_level() -> None:
    """One level of 8 bit: sums in another order round otherwise, and a value may lie on the edge of rounding."""
    blurry = photo(310, 275)
    settings = {"start_noise": 0.2, "keep_low": True, "guard": True, "steps": 3}
    whole = restore_image(blurry, build(Flow(wander, is_widened=True), Half(), **settings), tile=1024)
    for tile in (64, 128, 200):
        flow = Flow(wander, is_widened=True)
        assert levels_apart(restore_image(blurry, build(flow, Half(), **settings), tile=tile), whole) <= 1
        assert max(flow.batches) == max(1, tile**2 // 64**2)
    assert levels_apart(whole, restore_image(blurry, Half())) > 10


def test_a_seed_is_a_picture() -> None:
    blurry, backend = photo(100, 90), build(start_noise=0.3)
    first, again, other = (restore_image(blurry, backend, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 90), (64, 64), (65, 63), (17, 200)])
def test_photos_of_any_size_come_back_in_their_size(height: int, width: int) -> None:
    backend = build(Flow(wander, is_widened=True), Half(), start_noise=0.1, keep_low=True, guard=True)
    assert restore_image(photo(height, width), backend, tile=64).shape == (height, width, 3)


# --- the guard ----------------------------------------------------------------------------------------------------


def test_low_frequencies_come_from_the_estimate() -> None:
    velocity = torch.full((CHANNELS, 1, 1), 0.5)
    shift = Flow(lambda x_t, t, blurry: velocity.expand_as(x_t))
    blurry = np.full((160, 160, 3), 128, np.uint16) * 257
    free, kept = (restore_image(blurry, build(shift, keep_low=keep_low)) for keep_low in (False, True))
    means = [np.abs(restored[32:128, 32:128].astype(float).mean() - 128 * 257) for restored in (free, kept)]
    assert means[0] > 100
    assert means[1] <= 0.05 * means[0]


def test_a_window_that_is_no_number_falls_back_to_the_estimate_and_is_told() -> None:
    blurry, said = photo(200, 260), []
    lost = Flow(lambda x_t, t, _: torch.full_like(x_t, torch.nan))
    restored = restore_image(blurry, build(lost, Half(), guard=True), watch=Watch(on_event=said.append))
    assert np.array_equal(restored, restore_image(blurry, Half()))
    assert len(said) == 1
    assert "20 of 20 blocks of 64 pixels come from the estimate, the first at row 0, column 0" in said[0]
    with pytest.raises(PhotoError, match="not finite"):
        restore_image(blurry, build(lost, Half()))


def test_invented_colours_fall_back_and_are_told() -> None:
    said: list[str] = []
    signs = (torch.arange(WINDOW)[:, None] + torch.arange(WINDOW)) % 2 * 8.0 - 4
    mosaic = Flow(lambda x_t, t, _: signs.expand_as(x_t) * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None])
    blurry = np.full((128, 128, 3), 128, np.uint8)
    watch = Watch(on_event=said.append)
    assert levels_apart(restore_image(blurry, build(mosaic)), blurry) > 30
    assert np.array_equal(restore_image(blurry, build(mosaic, guard=True), watch=watch), blurry)
    assert "4 of 4 blocks" in said[0]


def test_what_overflows_in_bfloat16_is_computed_again_in_float32() -> None:
    class Overflowing(Flow):
        def __init__(self) -> None:
            super().__init__(stand_still)
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x_t: Tensor, t: Tensor, blurry: Tensor | None = None) -> Tensor:
            return x_t * (0 if self.weight.dtype == torch.float32 else torch.inf)

    blurry = photo(64, 80)
    assert np.array_equal(restore_image(blurry, build(Overflowing(), dtype=torch.bfloat16)), blurry)


# --- a base without adapter: the baseline -------------------------------------------------------------------------


def test_a_generic_flow_paints_the_estimate_anew_from_noise() -> None:
    sigma, blurry = 0.4, photo(64, 64)
    times: list[float] = []

    def lead(x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is None
        times.append(float(t[0]))
        return torch.full_like(x_t, 0.25)

    backend = build(Flow(lead), Half(), generic_noise=sigma, steps=3, strength=1.0)
    estimate = torch.from_numpy(blurry / np.float32(255)) / 2
    codec, grey = build_codec(), torch.full((1, 3, 64, 64), 0.5)
    noise = torch.randn(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        x_1 = (1 - sigma) * codec.encode(estimate.permute(2, 0, 1)[None]) + sigma * noise + sigma * 0.25
        expected = grey + codec.decode(x_1 - codec.encode(grey), grey)
        restored = backend.enhance(blurry, estimate.clone(), Order(seed=4))
    assert times == pytest.approx([0.6, 0.6 + 0.4 / 3, 0.6 + 0.8 / 3])
    assert (restored - expected[0].permute(1, 2, 0)).abs().max() <= 1e-5


# --- progress, stop, memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"strength": 0.0}, {"generic_noise": 0.5}])
@pytest.mark.parametrize("expert", [None, Half()])
def test_pixels_are_counted_once_each(settings: dict[str, float], expert: Half | None) -> None:
    counted: list[int] = []
    restore_image(photo(201, 149), build(expert=expert, **settings), tile=128, watch=Watch(on_pixels=counted.append))
    assert sum(counted) == 201 * 149
    assert min(counted) >= 0
    alone: list[int] = []
    order = Order(watch=Watch(on_pixels=alone.append))
    build(**settings).enhance(photo(201, 149), torch.zeros(201, 149, 3), order)
    assert sum(alone) == 201 * 149


def test_stop_is_asked_between_windows() -> None:
    flow = Flow(wander)
    watch = Watch(stop=lambda: len(flow.batches) >= 3)
    with pytest.raises(Stopped):
        restore_image(photo(), build(flow), tile=64, watch=watch)
    assert len(flow.batches) == 3


def test_out_of_memory_in_the_second_stage_halves_the_tile_and_the_photo_comes_out_the_same() -> None:
    said: list[str] = []

    def greedy(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
        if len(x_t) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return wander(x_t, t, blurry)

    blurry, settings = photo(300, 290), {"start_noise": 0.2, "keep_low": True, "guard": True}
    expected = restore_image(blurry, build(Flow(wander), Half(), **settings), tile=1024)
    backend = build(Flow(greedy), Half(), **settings)
    restored = restore_image(blurry, backend, tile=512, watch=Watch(on_event=said.append))
    assert levels_apart(restored, expected) <= 1
    assert said == [
        "out of memory with tiles of 512 pixels; going on with 256",
        "out of memory with tiles of 256 pixels; going on with 128",
    ]


def test_the_module_has_every_parameter_once() -> None:
    backend = build(Flow(wander), Half())
    assert sum(value.numel() for value in backend.module.parameters()) == 3 + sum(
        value.numel() for value in build_codec().parameters()
    )
    assert set(dict(backend.module.named_children())) == {"expert", "codec", "flow"}


# --- from files ---------------------------------------------------------------------------------------------------

SMALL_FLOW = {
    "sample_size": 8, "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 1, "num_attention_heads": 2,
    "attention_head_dim": 8, "joint_attention_dim": 8, "caption_projection_dim": 16, "pooled_projection_dim": 8,
    "pos_embed_max_size": 4, "patch_size": 2,
}  # fmt: skip


def save(tensors: dict[str, Tensor], path: Path, **metadata: Any) -> str:
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
    return hash_file(path)


def build_flow() -> FlowTransformer:
    """Widened and adapted, every matrix of it random."""
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL_FLOW, WINDOW))
    flow.widen()
    flow.attach_lora(LoraSettings(2))
    lively(flow, 1)
    return flow


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A dual expert as a training leaves it."""
    paths = {role: tmp_path / f"{role}.safetensors" for role in ("expert", "codec", "base", "lora", "prompt")}
    expert = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
    save(lively(DenseUNet(expert)).state_dict(), paths["expert"], config=asdict(expert))
    codec, flow = build_codec(), build_flow()
    sha = {"codec": save(codec.state_dict(), paths["codec"], config=asdict(codec.config))}
    sha["base"] = save(flow.base_state(), paths["base"], config=flow.config.to_json(), trained_on=dict(sha))
    sha["prompt"] = save({"prompt": torch.randn(1, 3, 8), "pooled": torch.randn(1, 8)}, paths["prompt"])
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.15, "window": WINDOW}
    save(flow.adapter_state(), paths["lora"], config=config, trained_on={**sha, "expert": "ab" * 32})
    return paths


@pytest.fixture
def load(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`load_model` with an entry of these files, less some of them."""

    def call(*without: str, flow: dict[str, Any] | None = None, **options: Any) -> Any:
        roles = {
            role: WeightsFile(role, "MIT", "s", path.stat().st_size, hash_file(path), local=str(path))
            for role, path in files.items()
            if role not in without
        }
        entry = ModelEntry("mine", "dual_expert", "s", roles, flow=flow or {})
        monkeypatch.setattr(weights, "find_model", lambda name: entry)
        return load_model("mine", device="cpu", **options)

    monkeypatch.setenv("HF_HOME", str(files["codec"].parent))
    return call


def test_files_become_the_networks_that_were_saved(files: dict[str, Path], load: Callable[..., Any]) -> None:
    backend = load(dtype="float32", flow={"steps": 2}, strength=0.5)
    assert backend.settings == FlowSettings(steps=2, strength=0.5, start_noise=0.15)
    assert [name for name, _ in backend.module.named_children()] == ["expert", "codec", "flow"]
    flow, x_t, t = build_flow(), torch.randn(2, CHANNELS, 8, 8), torch.tensor([0.0, 0.7])
    from safetensors.torch import load_file

    prompt = load_file(files["prompt"])
    flow.set_prompt(prompt["prompt"], prompt["pooled"])
    with torch.inference_mode():
        assert torch.allclose(backend.module.flow(x_t, t, x_t + 1), flow(x_t, t, x_t + 1), atol=1e-5)


def test_a_loaded_backend_restores_and_bfloat16_agrees_with_float32(load: Callable[..., Any]) -> None:
    blurry = photo(150, 130)
    free = {"guard": False}  # to which random networks are all at fault
    exact, fast = (restore_image(blurry, load("expert", dtype=name, flow=free)) for name in ("float32", "bfloat16"))
    assert levels_apart(exact, blurry) > 10
    error = np.square(exact.astype(float) - fast.astype(float)).mean()
    assert 10 * np.log10(255**2 / error) > 35


def say_otherwise(path: Path, **metadata: Any) -> None:
    """Other metadata in a file of weights."""
    from deblur_cli.checkpoint import read_content, read_metadata

    save(read_content(path), path, **{**read_metadata(path), **metadata})


def parents_of(files: dict[str, Path], *roles: str) -> dict[str, str]:
    return {role: hash_file(files[role]) for role in roles}


def test_it_runs_without_expert_and_without_prompt(files: dict[str, Path], load: Callable[..., Any]) -> None:
    say_otherwise(files["lora"], trained_on=parents_of(files, "codec", "base"))
    backend = load("expert", "prompt", strength=0.0)
    assert np.array_equal(restore_image(photo(), backend), photo())


def test_another_prompt_than_the_adapters_is_refused(files: dict[str, Path], load: Callable[..., Any]) -> None:
    with pytest.raises(WeightsError, match=r"with another prompt than none; use it with the one of sha256 \w{12}…"):
        load("prompt")
    save({"prompt": torch.randn(1, 3, 8), "pooled": torch.randn(1, 8)}, files["prompt"])
    with pytest.raises(WeightsError, match=r"with another prompt than .*prompt.safetensors; use it with the one"):
        load()
    say_otherwise(files["lora"], trained_on=parents_of(files, "codec", "base"))
    with pytest.raises(WeightsError, match=r"with another prompt than .*prompt.safetensors; use it without any"):
        load()


def test_the_flow_looks_through_the_window_of_its_adapter(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """A base of this tool has one window; an adapter from before it told one is taken at the base's word."""
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.15}
    say_otherwise(files["lora"], config=config)
    assert load().module.flow.config.window == WINDOW
    for window, text in ((WINDOW - 2, "works in no others; 6 were asked for"), ("8", "window must be a whole number")):
        say_otherwise(files["lora"], config={**config, "window": window})
        with pytest.raises(WeightsError, match=text):
            load()


def test_a_training_of_every_weight_runs_too(files: dict[str, Path], load: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL_FLOW, WINDOW))
    flow.widen()
    lively(flow, 7)
    told = {"config": {"rank": 2, "targets": ["attention"], "start_noise": 0.0, "window": WINDOW}}
    parents = parents_of(files, "codec", "base")
    save({**flow.base_state(), **flow.adapter_state()}, files["lora"], **told, trained_on=parents)
    flow.to(memory_format=torch.channels_last)  # as the backend lays it out: on some processors sums depend on it
    x_t, t = torch.randn(2, CHANNELS, 8, 8), torch.tensor([0.0, 0.7])
    with torch.inference_mode():
        assert torch.equal(load("prompt", dtype="float32").module.flow(x_t, t, x_t + 1), flow(x_t, t, x_t + 1))


def test_a_base_alone_is_the_generic_baseline_where_the_entry_says_so(load: Callable[..., Any]) -> None:
    assert load("lora", flow={"generic_noise": 0.4}).settings.generic_noise == 0.4
    with pytest.raises(WeightsError, match=r"mine: needs a lora, or flow.generic_noise"):
        load("lora")
    with pytest.raises(WeightsError, match="generic_noise is for a base without a lora"):
        load(flow={"generic_noise": 0.4})


@pytest.mark.parametrize("role", ["codec", "base"])
def test_another_codec_or_base_is_refused(role: str, files: dict[str, Path], load: Callable[..., Any]) -> None:
    network: Any = build_codec(seed=9) if role == "codec" else lively(build_flow(), 9)
    if role == "codec":
        save(network.state_dict(), files["codec"], config=asdict(network.config))
    else:
        save(network.base_state(), files["base"], config=network.config.to_json())
    with pytest.raises(WeightsError, match=f"was trained on another {role} than .*{role}.safetensors; use the one"):
        load()


def test_another_expert_is_welcome(files: dict[str, Path], load: Callable[..., Any]) -> None:
    config = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
    save(lively(DenseUNet(config), 8).state_dict(), files["expert"], config=asdict(config))
    assert restore_image(photo(40, 50), load()).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("role", "change", "text"),
    [
        ("lora", {"trained_on": {"codec": "x"}}, "was trained on another codec"),
        ("lora", {"trained_on": {}}, "does not say which codec"),
        ("lora", {"config": {"rank": 2, "targets": ["attention"]}}, "lacks 'start_noise'"),
        ("lora", {"config": {"rank": 3, "targets": ["attention"], "start_noise": 0}}, "do not fit the network"),
        ("lora", {"config": {"rank": 2, "targets": ["heads"], "start_noise": 0}}, "targets must name"),
        ("lora", {"config": {"rank": 2, "targets": ["attention"], "start_noise": 2}}, "start_noise must be"),
        ("base", {"config": {"kind": "sd9"}}, "base.safetensors: "),
        ("base", {"config": {}}, "base.safetensors: "),
        ("codec", {"config": {"channel": 4}}, "codec.safetensors: "),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_with_its_name(
    role: str, change: dict[str, Any], text: str, files: dict[str, Path], load: Callable[..., Any]
) -> None:
    from deblur_cli.checkpoint import read_content, read_metadata

    metadata = {**read_metadata(files[role]), **change}
    if role != "lora":  # the files that come after it must still fit
        for child in ("base", "lora"):
            save(read_content(files[child]), files[child], **{**read_metadata(files[child]), "trained_on": {}})
    save(read_content(files[role]), files[role], **metadata)
    sha = parents_of(files, "codec", "base", "prompt")
    if role != "lora":
        save(read_content(files["lora"]), files["lora"], **{**read_metadata(files["lora"]), "trained_on": sha})
    with pytest.raises(WeightsError, match=text) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_roles_that_are_missing_are_named(load: Callable[..., Any]) -> None:
    with pytest.raises(WeightsError, match="mine: has no file in the role base"):
        load("base")


def test_an_entry_that_is_not_trained_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ModelEntry("big", "dual_expert", "s", {}, untrained="deblur train flow --base sd3-medium")
    monkeypatch.setattr(weights, "find_model", lambda name: entry)
    with pytest.raises(WeightsError, match="big: is not trained yet; deblur train flow --base sd3-medium"):
        load_model("big")


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_model", lambda name: ModelEntry(name, "exprt", "s", {}))
    with pytest.raises(WeightsError, match="unknown backend 'exprt'; known are expert, dual_expert, deblurdiff"):
        load_model("m", device="cpu")


def test_only_a_model_with_a_flow_takes_steps_or_another_expert() -> None:
    for options in ({"steps": 2}, {"strength": 0.5}, {"expert": Path("a.pth")}):
        with pytest.raises(InputError):
            load_model("bundled-expert", device="cpu", **options)


def test_another_expert_by_its_path_takes_the_place_of_the_entrys(
    load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblur_cli.backends import dual_expert_files

    asked: list[Path] = []

    def fake(path: Path, device: torch.device, dtype: str) -> Half:
        asked.append(path)
        return Half()

    monkeypatch.setattr(dual_expert_files, "load_foreign", fake)
    blurry = photo(70, 90)
    restored = restore_image(blurry, load(strength=0.0, expert=Path("half.pth")))
    assert asked == [Path("half.pth")]
    assert np.array_equal(restored, restore_image(blurry, Half()))


def test_an_expert_alone_imports_no_diffusers() -> None:
    code = "import sys; from deblur_cli.backends import load_model; load_model('bundled-expert', device='cpu'); "
    code += "sys.exit(bool({'diffusers', 'peft'} & set(sys.modules)))"
    assert run_python(["-c", code]).returncode == 0


def test_memory_that_never_suffices_is_a_clear_error() -> None:
    def greedy(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
        raise MemoryError

    with pytest.raises(BackendError, match="even with tiles of"):
        restore_image(photo(80, 80), build(Flow(greedy)), tile=256)
