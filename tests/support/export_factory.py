"""Files of a small training, and the command that exports them, for the tests."""

import dataclasses
import hashlib
from pathlib import Path

import torch

from deblur_cli.app import run_app
from deblur_cli.checkpoint import save_network, save_tensors
from deblur_cli.networks.deconvolver import DeconvolutionConfig
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig, LoraSettings
from deblur_cli.networks.kernel_estimation import KernelSearch
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from support.hub_user import use_empty_home

SMALL = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "joint_attention_dim": 8,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 8,
    "pos_embed_max_size": 4,
}
TRAINING = {
    "seed": 3,
    "data": {"photo_share": 0.75, "frame_share": 0.05, "pair_share": 0.2},
    "schedule": {"batch": 12, "optimizer": "adamw", "learning_rate": 0.001},
    "steps": 4018,
    "minutes_spent": 20.5,
}
LAYOUT = [
    "README.md",
    "codec/config.json",
    "codec/diffusion_pytorch_model.safetensors",
    "expert/config.json",
    "expert/diffusion_pytorch_model.safetensors",
    "lora/config.json",
    "lora/pytorch_lora_weights.safetensors",
    "model.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
]
REPOSITORY = "me/sharp"
PUSH = ["--push", REPOSITORY, "--licence", "Apache-2.0"]


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes_of(*roles):
    """Role -> sha256 of the current folder's files."""
    return {role: hash_of(Path(f"{role}.safetensors")) for role in roles}


def write_expert(path, seed=0, *, lively=False):
    """As before any training, where it changes nothing, or a `lively` one, whose last layer is not zero."""
    torch.manual_seed(seed)
    config = DenseUNetConfig(2, (8, 8), (1, 1), (1,))
    network = DenseUNet(config)
    for parameter in network.parameters():
        if lively and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.015)
    save_network(network, path, {"config": dataclasses.asdict(config), "training": TRAINING})


def write_blend(path, trained_on):
    config = BlendConfig(
        4, 2, deconvolution=DeconvolutionConfig(64, 32, KernelSearch(4, turns=1), KernelSearch(8, turns=1))
    )
    save_network(VersionBlend(config), path, {"config": dataclasses.asdict(config), "trained_on": trained_on})


def write_codec(path, trained_on, seed=0):
    torch.manual_seed(seed)
    config = ResidualCodecConfig(4, (8, 16))
    metadata = {"config": dataclasses.asdict(config), "training": TRAINING, "trained_on": trained_on}
    save_network(ResidualCodec(config), path, metadata)


def write_base(path, trained_on, seed=0):
    torch.manual_seed(seed)
    config = FlowTransformerConfig("sd3", SMALL, 8)
    metadata = {"config": config.to_json(), "training": TRAINING, "trained_on": trained_on}
    save_network(FlowTransformer(config).transformer, path, metadata)


def write_lora(path, trained_on, rank=2, training=TRAINING):
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL, 8))
    flow.widen()
    flow.attach_lora(LoraSettings(rank))
    state = {key: torch.randn_like(value) for key, value in flow.adapter_state().items()}
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.1}
    save_tensors(state, path, {"config": config, "training": training, "trained_on": trained_on})


def write_training(folder, monkeypatch):
    """Four files of one training in `folder`, which becomes the current one; nothing of the user's own is seen."""
    from huggingface_hub import constants

    use_empty_home(folder, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(folder)
    write_expert(Path("expert.safetensors"), lively=True)
    write_codec(Path("codec.safetensors"), hashes_of("expert"))
    write_base(Path("base.safetensors"), hashes_of("codec"))
    write_lora(Path("lora.safetensors"), hashes_of("codec", "base", "expert"))


def export(*more, out="out", **files):
    """The status of `deblur train export` with the four files, or others in their place; None leaves one out."""
    chosen = {role: f"{role}.safetensors" for role in ("expert", "codec", "base", "lora")} | files
    given = [part for role, file in chosen.items() if file is not None for part in (f"--{role}", str(file))]
    return run_app(["train", "export", *given, "--out", out, *more])


def refusal(capfd, status):
    """The one line of a refusal after which there is nothing in the folder."""
    out, err = capfd.readouterr()
    assert (status in (1, 2), out, err.count("\n")) == (True, "", 1), err
    assert not list(Path().glob("*out*"))
    assert not list(Path().glob(".*"))
    return err.removeprefix("deblur: error: ").rstrip()


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
