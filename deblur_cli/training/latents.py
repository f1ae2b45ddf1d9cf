"""Windows of latents, made once and kept on disk: what a base and a flow are trained on.

A window holds the latents of a blurred photo, of the expert's estimate and of the sharp photo. The file's name is a
hash of everything it depends on, so that another codec, expert, recipe or folder of pictures never meets old latents.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deblur_cli.backends.tiled_codec import load_codec
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec
from deblur_cli.system.devices import has_fast_bfloat16
from deblur_cli.system.files import hash_file, whole_file
from deblur_cli.training.estimates import Estimator, with_estimates
from deblur_cli.training.folder import TrainingData, TrainingFolder
from deblur_cli.training.recipe import DataConfig, LatentConfig
from deblur_cli.training.sources import Generators, Mix
from deblur_cli.training.synthesis_config import SynthesisConfig

_BATCH = 8
_HELD_OUT_SEED = 30_000


@dataclass(frozen=True, slots=True)
class Codec:
    """A frozen codec and the sha256 of its weights."""

    network: ResidualCodec
    sha256: str


@dataclass(frozen=True, slots=True)
class Made:
    """Windows on the CPU; the second dimension is blurry, estimate, sharp.

    Attributes:
        trained: latents, (N, 3, C, h, w), bfloat16.
        held_out_pixels: of windows that are never trained on, (M, 3, 3, H, W), [0, 1].
        held_out: their latents, (M, 3, C, h, w).
    """

    trained: Tensor
    held_out_pixels: Tensor
    held_out: Tensor


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Where windows come from. Once they are made, the pictures are not read again.

    Attributes:
        codec, expert: what they are encoded with and estimated by.
        folder: where they are kept.
    """

    codec: Codec
    expert: Estimator
    data: TrainingFolder
    folder: Path
    sources: DataConfig = field(default_factory=DataConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)

    def open(self, device: torch.device, seed: int) -> "Made":
        """The windows of this seed, and those that are held out; made on `device` if they are not there yet."""
        path = self.folder / f"latents-{self._key(seed)}.safetensors"
        if not path.is_file():
            data = self.data.read()
            pixels, latents = self._make_held_out(data, device)
            trained = self._make(data, Generators.seeded(seed, device))
            made = {"trained": trained, "held_out_pixels": pixels, "held_out": latents}
            with whole_file(path) as temporary:
                save_file(made, temporary)
        return Made(**load_file(path))

    def _make_held_out(self, data: TrainingData, device: torch.device) -> tuple[Tensor, Tensor]:
        generators = Generators.seeded(_HELD_OUT_SEED, device)
        mix = self._mix(data.held_out(), generators)
        drawn = [
            torch.stack(mix.draw(_BATCH, self.latents.side), 1) for _ in range(-(-self.latents.held_out // _BATCH))
        ]
        pixels = torch.cat(drawn)
        return pixels.cpu().contiguous(), self._encode(pixels).cpu().contiguous()

    def _make(self, data: TrainingData, generators: Generators) -> Tensor:
        count = self.latents.windows
        mix = self._mix(data, generators)
        made = []
        for _ in range(-(-count // _BATCH)):
            triples = torch.stack(mix.draw(_BATCH, self.latents.side), 1)  # (8, 3, 3, H, W)
            made.append(self._encode(_turn(triples, generators)).to("cpu", torch.bfloat16))
        return torch.cat(made)[:count].contiguous()

    def _mix(self, data: TrainingData, generators: Generators) -> Mix:
        sources = data.sources(self.sources, self.synthesis, generators)
        return Mix(with_estimates(sources, self.expert, self.latents.plain_share), generators.places)

    @torch.no_grad()
    def _encode(self, triples: Tensor) -> Tensor:
        flat = triples.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(flat.device.type, torch.bfloat16, enabled=has_fast_bfloat16(flat.device)):
            latents = self.codec.network.to(flat.device).encode(flat)
        return torch.unflatten(latents.float(), 0, triples.shape[:2])

    def _key(self, seed: int) -> str:
        parts = {
            "codec": self.codec.sha256,
            "expert": dict(self.expert.hashes),
            "pictures": self.data.fingerprint(),
            "seed": seed,
            "recipe": [dataclasses.asdict(part) for part in (self.sources, self.synthesis, self.latents)],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def load_frozen_codec(path: Path) -> Codec:
    """A trained codec, to be frozen.

    Raises:
        WeightsError: the file is missing, damaged or holds no codec.
    """
    network = load_codec(path)
    return Codec(network.eval().requires_grad_(requires_grad=False), hash_file(path))


def latent_side(latents: LatentConfig) -> int:
    """Side of a window in latents."""
    return latents.side // STRIDE


def _turn(triples: Tensor, generators: Generators) -> Tensor:
    turned = triples.rot90(int(generators.places.integers(4)), (3, 4))
    return turned.flip(4) if generators.places.random() < 0.5 else turned
