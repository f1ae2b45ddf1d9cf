"""DeblurDiff as a user meets it: the authors' file is imported, listed, run and measured, with tiny networks."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.deblurdiff_factory import SMALL, build_reference
from support.training_factory import texture

from deblur_cli.backends.diffusion import convert_checkpoint_once
from deblur_cli.conversion.deblurdiff_file import DEBLURDIFF, STABLE_DIFFUSION, plan_conversion
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.files import hash_file
from deblur_cli.training.diffusion_base import DiffusionBase, load_diffusion_base
from deblur_cli.training.recipe import DeblurDiffRecipe, DiffusionConfig
from deblur_cli.weights.manifest import find_files, find_model

Command = Callable[..., tuple[int, list[str], list[str]]]
PAGE = "https://drive.google.com/drive/folders/1CUtnUKbu_zTyjJ17F95UYyh2SDzCOHeW"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' file, made small, as a browser may have named it."""
    path = tmp_path_factory.mktemp("downloads") / "model (1).pth"
    torch.save(build_reference().state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _small(own_home: Path) -> None:
    """`small` among the user's models: a page entry with the small networks' config."""
    config = ", ".join(
        f"{key} = {list(value) if isinstance(value, tuple) else value}"
        for key, value in dataclasses.asdict(SMALL).items()
    )
    (own_home / "settings").mkdir()
    (own_home / "settings/weights.toml").write_text(
        f"""
[files.small]
page = "{PAGE}"
name = "model.pth"
licence = "none"
source = "a test"
[models.small]
backend = "deblurdiff"
summary = "Small."
files = {{ checkpoint = "small" }}
config = {{ {config} }}
"""
    )


def read(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_authors_file_is_imported_run_and_measured(
    checkpoint: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    status, out, err = command("weights", "import", "small", checkpoint)
    kept = Path("home/deblur/files/small/model.pth").resolve()
    assert (status, out) == (0, [str(kept)])
    assert "nobody has published its sha256; pinned to " in err[0]
    assert err[1].endswith("its first run converts it, once, which takes as much room on the disk again")
    assert command("weights", "verify", "small")[:2] == (0, ["file\tresult\tpath", f"small\tverified\t{kept}"])
    assert command("weights", "pull", "small")[:2] == (0, [str(kept)])

    texture(1, 96).crop((0, 0, 96, 72)).save("photo.png")
    runs = [("first.png", "3"), ("again.png", "3"), ("other.png", "4")]
    for name, seed in runs:
        arguments = ("run", "photo.png", "-o", name, "--model", "small", "--steps", 3, "--seed", seed)
        assert command(*arguments)[:2] == (0, [name])
    assert sum("converting" in message for message in caplog.messages) == 1
    first, again, other = (read(name) for name, _ in runs)
    assert first.shape == (72, 96, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)

    for folder, seed in (("blur", 1), ("sharp", 2)):
        Path("pairs", folder).mkdir(parents=True)
        texture(seed, 72).save(f"pairs/{folder}/a.png")
    status, out, err = command("bench", "pairs", "--model", "small:steps=3", "--metrics", "psnr")
    assert status == 0, err
    assert any("small" in line for line in out), out


@pytest.mark.parametrize("steps", ["1", "1001"])
def test_a_number_of_steps_that_this_diffusion_does_not_take_is_one_line(
    steps: str, checkpoint: Path, command: Command
) -> None:
    assert command("weights", "import", "small", checkpoint)[0] == 0
    texture(1, 64).save("photo.png")
    status, out, err = command("run", "photo.png", "-o", "out.png", "--model", "small", "--steps", steps)
    assert (status, out) == (2, [])
    assert "steps" in err[-1]
    assert "1000" in err[-1]
    assert not Path("out.png").exists()
    assert not Path("home/deblur/files/small/parts").exists()  # nothing was converted for it


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("model.pth", b"<!DOCTYPE html><title>Google Drive - Virus scan warning</title>", "damaged weights file"),
        ("model.zip", b"PK", "not a weights file"),
        ("missing.pth", None, "no such file"),
    ],
)
def test_something_else_is_not_imported(name: str, content: bytes | None, text: str, command: Command) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    status, out, err = command("weights", "import", "small", name)
    assert (status != 0, out, len(err)) == (True, [], 1)
    assert text in err[0]
    assert find_model("small").files["checkpoint"].sha256 is None  # and nothing was pinned


def test_a_checkpoint_of_other_networks_is_not_imported(checkpoint: Path, command: Command) -> None:
    status, _, err = command("weights", "import", "deblurdiff", checkpoint)  # these are not the published widths
    assert (status, len(err)) == (1, 1)
    assert "not a checkpoint of DeblurDiff: in unet, missing" in err[0]


def test_before_it_is_there_every_command_says_how_to_get_it(command: Command) -> None:
    texture(1, 64).save("photo.png")
    advice = f"not on this machine; fetch {PAGE}, then deblur weights import deblurdiff FILE"
    for arguments in (("weights", "pull", "deblurdiff"), ("run", "photo.png", "-o", "o.png", "--model", "deblurdiff")):
        status, out, err = command(*arguments)
        assert (status, out) == (1, [])
        assert advice in err[-1]
    row = next(line for line in command("weights", "list", "--all")[1] if line.startswith("deblurdiff\t"))
    assert "\tabsent\t" in row
    status, out, _ = command("weights", "show", "deblurdiff", "--json")
    shown = json.loads("\n".join(out))
    assert (shown["state"], shown["bytes"], shown["files"][0]["origin"]) == ("absent", None, PAGE)


def add_trained(base: DiffusionBase, name: str, *, like: str, command: Command) -> None:
    """Enter what a training of no steps on that base writes."""
    state = {key: tensor.bfloat16().contiguous() for key, tensor in base.network.trained.state_dict().items()}
    save_file(state, f"{name}.safetensors", metadata={"trained_on": json.dumps({"base": base.sha256})})
    assert command("weights", "add", name, f"{name}.safetensors", "--like", like)[0] == 0


def test_what_was_trained_is_added_beside_its_base(checkpoint: Path, command: Command) -> None:
    assert command("weights", "import", "small", checkpoint)[0] == 0
    base = load_diffusion_base("small", DeblurDiffRecipe())
    add_trained(base, "tuned", like="small", command=command)
    roles = {role: file.key for role, file in find_model("tuned").files.items()}
    assert roles == {"checkpoint": "small", "trained": "tuned"}
    texture(1, 64).save("photo.png")
    assert command("run", "photo.png", "-o", "out.png", "--model", "tuned", "--steps", 2)[0] == 0
    assert load_diffusion_base("tuned", DeblurDiffRecipe()).sha256 == base.sha256


def enter_stable_diffusion(checkpoint: Path) -> None:
    """The three parts of it that DeblurDiff has as well, under Stable Diffusion's names, as the user's model `sd`."""
    prefixes = {"unet.": "model.diffusion_model.", "vae.": "first_stage_model.", "clip.": "cond_stage_model."}
    renamed = {
        new + name.removeprefix(old): tensor
        for name, tensor in torch.load(checkpoint, weights_only=True).items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }
    save_file({**renamed, "betas": torch.zeros(1000)}, "v2-1.safetensors")
    path, manifest = Path("v2-1.safetensors").resolve(), Path("settings/weights.toml")
    config = next(line for line in manifest.read_text().splitlines() if line.startswith("config"))
    manifest.write_text(
        f"""{manifest.read_text()}
[files.sd]
local = "{path}"
bytes = {path.stat().st_size}
sha256 = "{hash_file(path)}"
licence = "none"
source = "a test"
[models.sd]
backend = "deblurdiff"
summary = "A base."
files = {{ base = "sd" }}
untrained = "train it"
{config}
"""
    )


def test_stable_diffusion_alone_is_a_base_for_a_start_anew_whose_result_runs_on_it(
    checkpoint: Path, command: Command
) -> None:
    assert command("weights", "import", "small", checkpoint)[0] == 0
    enter_stable_diffusion(checkpoint)
    whole = convert_checkpoint_once(find_model("small").files["checkpoint"], SMALL, DEBLURDIFF)
    parts = convert_checkpoint_once(find_model("sd").files["base"], SMALL, STABLE_DIFFUSION)
    assert parts.keys() == {"unet", "vae", "prompt"}
    for role, path in parts.items():
        torch.testing.assert_close(load_file(path), load_file(whole[role]), rtol=0, atol=0)
    with pytest.raises(InputError, match=r"no lkpn, controlnet; --set diffusion\.fresh=true"):
        load_diffusion_base("sd", DeblurDiffRecipe())
    base = load_diffusion_base("sd", DeblurDiffRecipe(diffusion=DiffusionConfig(fresh=True, frozen_dtype="bfloat16")))
    assert base.network.unet.dtype == torch.bfloat16
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(base.network.lkpn(latents, latents, 5, base.network.prompt.embedding), latents)  # zero filters
    texture(1, 64).save("photo.png")
    assert "is not trained yet; train it" in command("run", "photo.png", "-o", "o.png", "--model", "sd")[2][-1]
    add_trained(base, "ours", like="sd", command=command)
    assert command("run", "photo.png", "-o", "o.png", "--model", "ours", "--steps", 2)[0] == 0
    add_trained(base, "theirs", like="small", command=command)
    status, _, err = command("run", "photo.png", "-o", "p.png", "--model", "theirs", "--steps", 2)
    assert (status, "was trained on another base" in err[-1]) == (1, True)


def test_the_public_copy_of_stable_diffusion_has_the_bytes_of_three_parts() -> None:
    (file,) = find_files("stable-diffusion-2-1-base")
    text_encoder = 354_032_641  # of OpenCLIP's ViT-H/14, all 24 layers
    unet, vae = 865_910_724, 83_653_863
    assert file.bytes is not None
    assert 0 < file.bytes - 4 * (text_encoder + unet + vae) < 500_000  # the names of the tensors, and a schedule


def test_a_stable_diffusion_of_other_shapes_is_refused() -> None:
    with pytest.raises(WeightsError, match="in the text encoder, missing"):
        plan_conversion({"model.diffusion_model.x": (3,), "betas": (1000,)}, SMALL, STABLE_DIFFUSION)
