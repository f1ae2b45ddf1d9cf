"""The published checkpoint, made small: every tensor finds its place, and the networks compute what they should."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support.compvis_reference import Published, published
from support.deblurdiff_factory import SMALL, build_reference, draw
from torch import Tensor

from deblur_cli.checkpoint import load_strict
from deblur_cli.conversion import deblurdiff_file as conversion
from deblur_cli.conversion.deblurdiff_file import (
    PICTURE_LAYERS,
    ROLES,
    convert_deblurdiff,
    is_converted,
    part_path,
    plan_conversion,
)
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.networks.deblurdiff import LATENT_SCALE, DeblurDiff, DeblurDiffConfig
from deblur_cli.system.files import hash_file

Shapes = dict[str, tuple[int, ...]]


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.fixture(scope="module")
def reference() -> Published:
    return build_reference()


@pytest.fixture(scope="module")
def shapes(reference: Published) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in reference.state_dict().items()}


@pytest.fixture(scope="module")
def checkpoint(reference: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "model.pth"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def parts(checkpoint: Path) -> Path:
    folder = checkpoint.parent / "parts"
    convert_deblurdiff(checkpoint, folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def network(parts: Path) -> DeblurDiff:
    network = DeblurDiff(SMALL).eval()
    for role, part in network.parts.items():
        load_strict(part, part_path(parts, role))  # no key too few, none too many
    return network


@torch.inference_mode()
def test_the_converted_networks_compute_what_plain_torch_computes(reference: Published, network: DeblurDiff) -> None:
    blurry, x_t, timestep = draw(2, 4, 16, 24), draw(2, 4, 16, 24, seed=1), torch.tensor([401, 999])
    prompt = network.prompt.embedding
    context = prompt.expand(2, -1, -1)
    sharpened = reference.sharpen(blurry, x_t, timestep, context)
    assert_close(network.lkpn(blurry, x_t, timestep, context), sharpened)
    control = reference.controlnet(x_t, torch.cat((blurry, sharpened), dim=1), timestep, context)
    hinted, picture = torch.cat((x_t, blurry, sharpened), dim=1), torch.zeros(1, 3, 8, 8)
    down, middle = network.controlnet(hinted, timestep, context, picture, return_dict=False)
    assert len(control) == 13
    for ours, theirs in zip((*down, middle), control, strict=True):
        assert_close(ours, theirs)
    assert_close(network.predict_noise(blurry, x_t, timestep), reference.unet(x_t, timestep, context, control))


@torch.inference_mode()
def test_the_converted_vae_computes_what_plain_torch_computes(reference: Published, network: DeblurDiff) -> None:
    pixels, latents = draw(2, 3, 64, 32), draw(2, 4, 8, 4)
    assert_close(network.encode(pixels), reference.vae.encode(pixels) * LATENT_SCALE)
    assert_close(network.decode(latents), reference.vae.decode(latents / LATENT_SCALE))


@torch.inference_mode()
def test_the_stored_prompt_is_what_the_text_encoder_says_to_nothing(reference: Published, network: DeblurDiff) -> None:
    tokens = torch.tensor([[18, 19, *[0] * 7]])  # start, end, padding
    assert_close(network.prompt.embedding, reference.clip.model(tokens))


@torch.inference_mode()
def test_diffusers_layers_for_a_picture_add_nothing_of_whatever_size(network: DeblurDiff) -> None:
    hinted, prompt = draw(1, 12, 16, 16), network.prompt.embedding
    pictures = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 128, 128), draw(1, 3, 128, 128)]
    answers = [network.controlnet(hinted, 500, prompt, picture, return_dict=False) for picture in pictures]
    for down, middle in answers[1:]:
        assert torch.equal(middle, answers[0][1])
        assert all(map(torch.equal, down, answers[0][0]))


def test_the_sixteen_missing_tensors_are_named_and_zero(parts: Path) -> None:
    assert len(PICTURE_LAYERS) == 16
    with safe_open(part_path(parts, "controlnet"), framework="pt") as file:
        assert {name for name in file.keys() if "cond_embedding" in name} == {*PICTURE_LAYERS}  # noqa: SIM118
        assert not any(file.get_tensor(name).any() for name in PICTURE_LAYERS)


def test_every_tensor_of_the_real_checkpoint_has_one_place_and_the_networks_their_size() -> None:
    with torch.device("meta"):
        real, network = published(), DeblurDiff(DeblurDiffConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in real.state_dict().items()}
    plan = plan_conversion(shapes, DeblurDiffConfig())
    places = [name for part in plan.values() for name, _ in part.values() if name is not None]
    assert sorted(places) == sorted(name for name in shapes if not name.startswith("clip."))
    for role, expected in (("unet", 865_910_724), ("lkpn", 144_907_236), ("controlnet", 363_164_800)):
        own = {name: tensor for name, tensor in network.parts[role].state_dict().items() if name not in PICTURE_LAYERS}
        assert {place: shape for place, (name, shape) in plan[role].items() if name is not None} == {
            name: tuple(tensor.shape) for name, tensor in own.items()
        }
        assert sum(tensor.numel() for tensor in own.values()) == expected
        assert sum(torch.Size(shapes[name]).numel() for name, _ in plan[role].values() if name is not None) == expected
    assert 1.8e9 < sum(torch.Size(shape).numel() for shape in shapes.values()) < 1.85e9


def test_the_parts_say_which_file_they_are_of(checkpoint: Path, parts: Path) -> None:
    assert sorted(path.name for path in parts.iterdir()) == sorted(f"{role}.safetensors" for role in ROLES)
    with safe_open(part_path(parts, "unet"), framework="pt") as file:
        assert json.loads(file.metadata()["source_sha256"]) == hash_file(checkpoint)
    assert is_converted(checkpoint, parts)


def test_parts_of_another_file_or_an_incomplete_set_do_not_count(checkpoint: Path, parts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    assert not is_converted(other, parts)
    assert not is_converted(checkpoint, tmp_path)
    for part in parts.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes()[: -1 if "vae" in part.name else None])
    assert not is_converted(checkpoint, tmp_path)


SPOILED = [
    ("unet.extra.weight", (3,), "unet, unknown: unet.extra.weight"),
    ("unet.input_blocks.1.1.extra", (3,), "unet, unknown: unet.input_blocks.1.1.extra"),
    ("kpn.idy_conv.weight", (3,), "the checkpoint, unknown: kpn.idy_conv.weight"),
    ("kpn.unet.out.2.bias", None, "lkpn, missing: conv_out.bias"),
    ("controlnet.zero_convs.3.0.bias", None, "controlnet, missing: controlnet_down_blocks.3.bias"),
    (
        "controlnet.input_hint_block.0.weight",
        (16, 3, 3, 3),
        "controlnet, unknown: controlnet.input_hint_block.0.weight",
    ),
    ("controlnet.input_blocks.0.0.weight", (32, 4, 3, 3), "controlnet, of another shape: controlnet.input_blocks.0.0"),
    ("vae.encoder.mid.attn_1.q.weight", (64, 64, 3, 3), "vae, of another shape: vae.encoder.mid.attn_1.q.weight"),
    ("vae.loss.logvar", (1,), "vae, unknown: vae.loss.logvar"),
    ("clip.model.visual.proj", (3,), "the text encoder, unknown: visual.proj"),
    ("clip.model.ln_final.bias", None, "the text encoder, missing: ln_final.bias"),
]


@pytest.mark.parametrize(("name", "shape", "fault"), SPOILED, ids=[name for name, *_ in SPOILED])
def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(
    shapes: Shapes, name: str, shape: tuple[int, ...] | None, fault: str
) -> None:
    spoiled = {key: value for key, value in shapes.items() if key != name} | ({name: shape} if shape else {})
    with pytest.raises(WeightsError, match=fault):
        plan_conversion(spoiled, SMALL)


def test_a_checkpoint_of_something_else_is_refused_with_its_name_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"params.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"other\.pth: not a checkpoint of DeblurDiff.*params\.weight"):
        convert_deblurdiff(path, tmp_path / "parts", SMALL)
    assert not (tmp_path / "parts").exists()


def test_a_disk_that_fails_midway_leaves_no_part(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = conversion.save_file

    def fail(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if "vae" in path.name:
            raise OSError(28, "No space left on device")
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(conversion, "save_file", fail)
    with pytest.raises(WeightsError, match="disk full"):
        convert_deblurdiff(checkpoint, tmp_path / "parts", SMALL)
    assert not list((tmp_path / "parts").iterdir())


def test_a_diffusers_without_its_conversion_is_one_line(shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.loaders import single_file_utils

    monkeypatch.delattr(single_file_utils, "convert_ldm_unet_checkpoint")
    with pytest.raises(BackendError, match="no convert_ldm_unet_checkpoint; convert once with diffusers"):
        plan_conversion(shapes, SMALL)
