"""DeblurDiff trained for seconds: on one pair until it knows it, and by the command, whose result then runs."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from support.deblurdiff_factory import TINY, build_network
from support.training_factory import write_pictures, write_recipe
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.backends.diffusion import DeblurDiffBackend
from deblur_cli.checkpoint import load_strict, read_metadata
from deblur_cli.networks.deblurdiff import LATENT_SCALE, DeblurDiff
from deblur_cli.restoration.contract import Order
from deblur_cli.sampling.ddpm import TIMESTEPS, build_scheduler, diffuse
from deblur_cli.system.files import hash_file
from deblur_cli.training.deblurdiff_task import DeblurDiffTask, to_signed
from deblur_cli.training.diffusion_base import DiffusionBase
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import RunPaths, Training
from deblur_cli.training.recipe import DeblurDiffRecipe, DiffusionConfig, ScheduleConfig
from deblur_cli.training.sources import Generators

CPU = torch.device("cpu")
NOTHING = TrainingData([], [], [], [], [])
BATCH = 6


@pytest.fixture(autouse=True)
def _number_format_of_its_own() -> Iterator[None]:
    """accelerate keeps the first one it was given for the whole process; the tests here want different ones."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class BlockVae(nn.Module):
    """Stands in for the VAE; it keeps pictures of flat 8 x 8 blocks exactly."""

    dtype = torch.float32

    def encode(self, pixels: Tensor) -> SimpleNamespace:
        colours = functional.avg_pool2d(pixels, 8) / LATENT_SCALE
        latents = torch.cat((colours, colours.mean(dim=1, keepdim=True)), dim=1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        return (functional.interpolate(latents[:, :3] * LATENT_SCALE, scale_factor=8),)


class TrustingUNet(nn.Module):
    """Stands in for a UNet that knows what pictures are: it takes the first control residual for the clean latents."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("signal", build_scheduler(TIMESTEPS).alphas_cumprod)

    def forward(
        self,
        x_t: Tensor,
        timestep: Tensor | int,
        prompt: Tensor,
        down_block_additional_residuals: list[Tensor],
        mid_block_additional_residual: Tensor,
        return_dict: bool,
    ) -> tuple[Tensor]:
        assert not return_dict
        signal = self.signal[torch.as_tensor(timestep)].view(-1, 1, 1, 1)
        clean = down_block_additional_residuals[0][:, :4]
        return ((x_t - signal.sqrt() * clean) / (1 - signal).sqrt(),)


def draw_pair(blocks: int = 8) -> tuple[Tensor, Tensor]:
    """A blurred and a sharp picture of blocks of 8 x 8 pixels, (1, 3, 8b, 8b), with the same mean and contrast."""
    sharp = torch.rand(1, 3, blocks, blocks, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(functional.pad(sharp, (4, 0, 4, 0), mode="replicate"), 5, 1)
    pair = torch.cat((blurred, sharp))
    pair = (pair - pair.mean(dim=(2, 3), keepdim=True)) / pair.std(dim=(2, 3), keepdim=True) * 0.15 + 0.5
    blurry, sharp = functional.interpolate(pair.clamp(0, 1), scale_factor=8).split(1)
    return blurry, sharp


class OnePairTask(DeblurDiffTask):
    """Sees nothing but one pair, and keeps what each step lost."""

    def __init__(self, *given: Any, blocks: int) -> None:
        super().__init__(*given)
        self.losses: list[float] = []
        self._blocks = blocks

    def loss(self, network: nn.Module) -> Tensor:
        loss = super().loss(network)
        self.losses.append(float(loss.detach()))
        return loss

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        pair = tuple(picture.expand(BATCH, -1, -1, -1) for picture in draw_pair(self._blocks))
        self._batches: Iterator[tuple[Tensor, ...]] = itertools.repeat(pair)
        self._generators, self._held_out = generators, [pair]


def build_training(
    network: DeblurDiff, folder: Path, *, steps: int = 1, blocks: int = 8, **settings: object
) -> tuple[Training, list[float]]:
    """A training on one pair, and the list in which each step leaves its loss."""
    schedule = ScheduleConfig(0, 0, BATCH, 64, "adamw", 6e-3, weight_decay=0.0, ema_decay=0.98, steps=steps)
    recipe = DeblurDiffRecipe(diffusion=DiffusionConfig(**settings), schedule=schedule)
    task = OnePairTask(recipe, DiffusionBase(network, "of a test"), NOTHING, blocks=blocks)
    return Training(task, RunPaths(folder), Accelerator(cpu=True)), task.losses


def first_loss(network: DeblurDiff, folder: Path, **settings: object) -> float:
    training, losses = build_training(network, folder, **settings)
    training.run(lambda progress: None)
    return losses[0]


def restore(network: DeblurDiff, blurry: Tensor) -> Tensor:
    backend = DeblurDiffBackend("tiny", network, CPU, torch.float32, steps=5)
    photo = (blurry[0].permute(1, 2, 0) * 255).round().byte().numpy()
    restored = backend.enhance(photo, torch.from_numpy(photo / np.float32(255)), Order())
    return restored.permute(2, 0, 1)[None]


def build_trusting() -> DeblurDiff:
    """A tiny network whose frozen parts know what pictures are."""
    torch.manual_seed(0)
    network = DeblurDiff(TINY)
    network.vae, network.unet = BlockVae(), TrustingUNet()
    return network


def test_trained_on_one_pair_it_restores_that_pair(tmp_path: Path) -> None:
    training, losses = build_training(build_trusting(), tmp_path, steps=60)
    before = training.validate()
    training.run(lambda progress: None)
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    after = training.figures
    psnr, errors = "Held-out windows, dB PSNR", "Held-out windows, mean squared error"
    assert after[psnr]["blurry"] == before[psnr]["blurry"]
    assert after[psnr]["LKPN"] > after[psnr]["blurry"] + 3 > before[psnr]["LKPN"] + 3
    assert after[errors]["latents"] < 0.2 * before[errors]["latents"]
    assert after[errors]["noise"] < 0.5 * before[errors]["noise"]
    written = build_trusting().eval()
    load_strict(written.trained, tmp_path / "deblurdiff.safetensors")
    blurry, sharp = draw_pair()
    assert float((restore(written, blurry) - sharp).square().mean()) < 0.75 * float((blurry - sharp).square().mean())


def test_only_the_lkpn_and_the_controlnet_change(tmp_path: Path) -> None:
    # 16 x 16 latents are 2 x 2 tokens in the middle of the networks. One token would be weighed by a softmax over
    # itself, which is 1 whatever its query and key are: they would change by rounding noise only, or not at all.
    network = build_network()
    before = {role: {k: v.clone() for k, v in part.state_dict().items()} for role, part in network.parts.items()}
    training, _ = build_training(network, tmp_path, steps=2, blocks=16, checkpointing=True)
    training.run(lambda progress: None)
    for role, part in network.parts.items():
        changed = {name for name, tensor in part.state_dict().items() if not torch.equal(tensor, before[role][name])}
        trainable = {name for name in before[role] if "cond_embedding" not in name}
        assert changed == (trainable if role in ("lkpn", "controlnet") else set()), role


@torch.no_grad()
def measure_terms(network: DeblurDiff) -> list[float]:
    """The three terms of the first loss of `build_training`, each by its definition."""
    generators = Generators.seeded(0, CPU)  # as the loop seeds its first step
    blurry, sharp = (picture.expand(BATCH, -1, -1, -1) for picture in draw_pair())
    latents, truth = network.encode(blurry), network.encode(to_signed(sharp))  # the condition is in [0, 1]
    timesteps = torch.randint(TIMESTEPS, (BATCH,), generator=generators.pixels)
    noise = torch.randn(truth.shape, generator=generators.pixels)
    predicted, sharpened = network(latents, diffuse(truth, noise, timesteps), timesteps)
    pairs = ((predicted, noise), (sharpened, truth), (network.decode(sharpened), to_signed(sharp)))
    return [float(functional.mse_loss(*pair)) for pair in pairs]


def test_the_loss_is_noise_plus_latents_plus_pixels(tmp_path: Path) -> None:
    terms = measure_terms(build_network())
    for latent_weight, pixel_weight in ((1.0, 1.0), (2.0, 0.5), (0.0, 0.0)):
        expected = terms[0] + latent_weight * terms[1] + pixel_weight * terms[2]
        found = first_loss(build_network(), tmp_path, latent_weight=latent_weight, pixel_weight=pixel_weight)
        assert found == pytest.approx(expected, rel=1e-4)


def test_checkpointing_and_a_base_in_bfloat16_change_the_loss_by_rounding_only(tmp_path: Path) -> None:
    plain = first_loss(build_network(), tmp_path)
    assert first_loss(build_network(), tmp_path, checkpointing=True) == pytest.approx(plain, rel=1e-6)
    network = build_network()
    nn.Module.to(network.unet, torch.bfloat16)
    assert first_loss(network, tmp_path) == pytest.approx(plain, rel=0.02)


def test_the_diffusion_goes_from_the_picture_to_noise() -> None:
    x_0, noise = torch.ones(3, 4, 2, 2), torch.full((3, 4, 2, 2), -1.0)
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    signal = (1 - betas).cumprod(dim=0)[[0, 500, 999]]
    expected = (signal.sqrt() - (1 - signal).sqrt()).float().view(3, 1, 1, 1).expand_as(x_0)
    torch.testing.assert_close(diffuse(x_0, noise, torch.tensor([0, 500, 999])), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def work(own_home: Path, tmp_path: Path) -> Path:
    """Pictures, a recipe, and the five parts of a tiny network in `parts/`."""
    write_pictures(tmp_path / "data")
    write_recipe(tmp_path / "recipe.toml", "[diffusion]\nheld_out = 2", patch=64)
    (tmp_path / "parts").mkdir()
    config = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__}
    for role, part in build_network().parts.items():
        path = tmp_path / f"parts/{role}.safetensors"
        save_file(part.state_dict(), path, metadata={"config": json.dumps(config)})
    return tmp_path


def train(work: Path, *more: str, base: str = "parts") -> int:
    fixed = ["--data", str(work / "data"), "--recipe", str(work / "recipe.toml"), "--device", "cpu", "--quiet"]
    return run_app(["train", "deblurdiff", *fixed, "--out", str(work / "run"), "--base", str(work / base), *more])


def enter_parts(work: Path) -> None:
    """The parts as a model `base` of the user's, and `tuned`, which a training has made of it."""
    roles = ("unet", "lkpn", "controlnet", "vae", "prompt")
    lines = []
    for role, path in {role: work / f"parts/{role}.safetensors" for role in roles}.items():
        lines += [f"[files.{role}]", f'local = "{path}"', f"bytes = {path.stat().st_size}"]
        lines += [f'sha256 = "{hash_file(path)}"', 'licence = "none"', 'source = "a test"']
    trained = work / "run/deblurdiff.safetensors"
    lines += ["[files.mine]", f'local = "{trained}"', f"bytes = {trained.stat().st_size}"]
    lines += [f'sha256 = "{hash_file(trained)}"', 'licence = "none"', 'source = "a test"']
    config = ", ".join(
        f"{k} = {list(v) if isinstance(v, tuple) else v}" for k, v in ((n, getattr(TINY, n)) for n in TINY.__slots__)
    )
    for name, extra in (("base", ""), ("tuned", ', trained = "mine"')):
        lines += [f"[models.{name}]", 'backend = "deblurdiff"', 'summary = "tiny"', f"config = {{ {config} }}"]
        lines += ["files = { " + ", ".join(f'{role} = "{role}"' for role in roles) + extra + " }"]
    (work / "settings").mkdir(exist_ok=True)
    (work / "settings/weights.toml").write_text("\n".join(lines))


def test_the_command_trains_goes_on_and_its_result_runs(work: Path) -> None:
    path = work / "run/deblurdiff.safetensors"
    assert train(work) == 0
    first = read_metadata(path)
    assert first["trained_on"] == {"base": hash_file(work / "parts/unet.safetensors")}
    figures = json.loads((work / "run/log.jsonl").read_text().splitlines()[-1])["figures"]
    assert [list(group) for group in figures.values()] == [["blurry", "LKPN"], ["noise", "latents"]]
    assert train(work, "--resume", "--set", "schedule.steps=3") == 0
    assert read_metadata(path)["training"]["steps"] > first["training"]["steps"]
    enter_parts(work)
    base, tuned = (load_model(f"{name}:steps=2", device="cpu").module for name in ("base", "tuned"))
    stored = load_file(path)
    for role in ("lkpn", "controlnet"):
        for name, tensor in tuned.parts[role].state_dict().items():
            assert torch.equal(tensor, stored[f"{role}.{name}"].float())
    for role in ("unet", "vae", "prompt"):
        torch.testing.assert_close(tuned.parts[role].state_dict(), base.parts[role].state_dict(), rtol=0, atol=0)
    again = ["--out", str(work / "again"), "--init", str(path)]
    assert train(work, *again) == 0


def test_a_start_anew_needs_only_the_frozen_parts(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for role in ("lkpn", "controlnet"):
        (work / f"parts/{role}.safetensors").unlink()
    assert train(work) == 2
    assert capsys.readouterr().err.endswith("has no lkpn, controlnet; --set diffusion.fresh=true starts them anew\n")
    assert train(work, "--set", "diffusion.fresh=true") == 0
    stored, unet = load_file(work / "run/deblurdiff.safetensors"), load_file(work / "parts/unet.safetensors")
    learned = unet["mid_block.resnets.0.conv1.weight"]
    torch.testing.assert_close(
        stored["controlnet.mid_block.resnets.0.conv1.weight"].float(), learned, rtol=0, atol=0.02
    )


@pytest.mark.parametrize(
    ("more", "base", "text"),
    [
        ((), "data", "no unet.safetensors there"),
        ((), "nowhere", "no model of DeblurDiff; known: deblurdiff, stable-diffusion-2-1-base"),
        (("--set", "schedule.patch=96"), "parts", "patch = 96: must be a multiple of 64"),
        (("--set", "diffusion.frozen_dtype='float16'"), "parts", "choose float32 or bfloat16"),
        (("--init", "{work}/parts/unet.safetensors"), "parts", "do not fit the network"),
    ],
)
def test_what_does_not_fit_is_one_line(
    more: tuple[str, ...], base: str, text: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(work, *(part.format(work=work) for part in more), base=base) in (1, 2)
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_a_result_on_another_base_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(work) == 0
    unet = work / "parts/unet.safetensors"
    state = {name: tensor + 1 for name, tensor in load_file(unet).items()}
    save_file(state, unet)
    enter_parts(work)
    (work / "photo.png").write_bytes((work / "data/photos/0.png").read_bytes())
    assert run_app(["run", str(work / "photo.png"), "-o", str(work / "out"), "--model", "tuned"]) == 1
    assert "was trained on another base" in capsys.readouterr().err
