"""Windows of pictures with an expert's estimates, made once and kept on disk.

A strong expert needs a second for a window, so they are kept in pieces: who was stopped goes on behind the last whole
one, and who wants more windows makes only those that are missing. The folder's name is a hash of everything that they
depend on, so that another expert, recipe or folder of pictures never meets old estimates; each piece names it again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deblur_cli.errors import InputError
from deblur_cli.metrics.detail import FLOOR
from deblur_cli.system.files import whole_file
from deblur_cli.training.estimates import Estimator, with_estimates
from deblur_cli.training.folder import TrainingData, TrainingFolder
from deblur_cli.training.recipe import DataConfig, LatentConfig
from deblur_cli.training.sources import Generators, Mix, Source
from deblur_cli.training.synthesis_config import SynthesisConfig

_PIECE = 16  # windows in a file
_BATCH = 4  # of one kind, one after the other
_UNCHOSEN = 1 / 8  # share of the windows that are the first pair drawn, blurred or not
_NOT_ASKED = ("windows", "held_out", "reuse", "pool")  # how many there are, and how they are used

OnPiece = Callable[[int, int], None]  # windows that are there, windows that are wanted


@dataclass(frozen=True, slots=True)
class WindowMaker:
    """What windows are made from, and where they are kept."""

    expert: Estimator
    data: TrainingFolder
    folder: Path
    sources: DataConfig = field(default_factory=DataConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)

    def open(self, device: torch.device, seed: int, on_piece: OnPiece | None = None) -> "KeptWindows":
        """The windows of this seed and those that are held out; what is not there is made on `device`.

        Raises:
            InputError: a piece is damaged or was made of something else, or there are no pictures.
        """
        asked = self.latents
        counts = {f"trained-{seed}": asked.windows, "held-out": asked.held_out}
        paths = {name: self._pieces(name, count) for name, count in counts.items()}
        missing = [path for group in paths.values() for path in group if not path.is_file()]
        if missing:
            data, there = self.data.read(), sum(len(group) for group in paths.values()) - len(missing)
            for count, path in enumerate(missing, 1):
                self._make(path, data if path.parent.name != "held-out" else data.held_out(), device)
                if on_piece is not None:
                    on_piece((there + count) * _PIECE, (there + len(missing)) * _PIECE)
        trained, held_out = (WindowPieces(group, self.key(), counts[name]) for name, group in paths.items())
        return KeptWindows(trained, held_out)

    def key(self) -> str:
        """16 hex digits that stand for all that a window depends on, but not for how many there are."""
        tables = [dataclasses.asdict(part) for part in (self.sources, self.synthesis, self.latents)]
        parts = {
            "expert": dict(self.expert.hashes),
            "pictures": self.data.fingerprint(),
            "recipe": [{key: value for key, value in table.items() if key not in _NOT_ASKED} for table in tables],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _pieces(self, name: str, count: int) -> list[Path]:
        folder = self.folder / f"estimates-{self.key()}" / name
        return [folder / f"{place:05}.safetensors" for place in range(-(-count // _PIECE))]

    def _make(self, path: Path, data: TrainingData, device: torch.device) -> None:
        """One piece; its random numbers are its own, so that it is the same whenever it is made."""
        digest = hashlib.sha256(f"{path.parent.name}/{path.stem}".encode()).digest()
        generators = Generators.seeded(int.from_bytes(digest[:4], "big"), device)
        sources: Sequence[tuple[float, Source]] = data.sources(self.sources, self.synthesis, generators)
        if self.latents.candidates > 1:
            sources = [
                (share, _MostBlurred(source, self.latents.candidates, generators.places)) for share, source in sources
            ]
        mix = Mix(with_estimates(sources, self.expert, self.latents.plain_share), generators.places)
        drawn = [torch.stack(mix.draw(_BATCH, self.latents.side), 1) for _ in range(_PIECE // _BATCH)]
        pixels = (torch.cat([_turn(triples, generators) for triples in drawn]) * 255).round().clamp(0, 255).byte()
        with whole_file(path) as temporary:
            save_file({"windows": pixels.cpu().contiguous()}, temporary, metadata={"made of": self.key()})


@dataclass(frozen=True, slots=True)
class KeptWindows:
    """Triples of blurry, estimate and sharp on the disk."""

    trained: "WindowPieces"
    held_out: "WindowPieces"


class WindowPieces:
    """Windows in files of sixteen, each (3, 3, side, side), read when they are asked for."""

    def __init__(self, paths: Sequence[Path], key: str, count: int) -> None:
        self._count = count
        self._files = [_open_piece(path, key) for path in paths]

    def __len__(self) -> int:
        return self._count

    def take(self, places: Sequence[int]) -> Tensor:
        """(len(places), 3, 3, side, side), [0, 1], on the CPU."""
        found = [self._files[place // _PIECE][place % _PIECE] for place in places]
        return torch.stack(found).float() / 255


class KeptSource:
    """A source of patches that are cut from kept windows, in place of the pictures themselves: see `Source`."""

    def __init__(self, windows: WindowPieces, generators: Generators) -> None:
        self._windows, self._generators = windows, generators

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """Blurry, estimate and sharp, three times (count, 3, size, size).

        Raises:
            InputError: the windows are smaller than that.
        """
        places = self._generators.places
        windows = self._windows.take(places.integers(len(self._windows), size=count).tolist())
        side = windows.shape[-1]
        if size > side:
            raise InputError(
                f"the kept windows have {side} pixels a side, and patches take {size}: lower schedule.patch"
            )
        top, left = places.integers(side - size + 1, size=2)
        cut = windows[..., top : top + size, left : left + size]
        return cut.to(self._generators.pixels.device).unbind(1)


class _MostBlurred:
    """Of several pairs the one that lost most of its detail, but for a share that is taken as it comes."""

    def __init__(self, source: Source, candidates: int, places: np.random.Generator) -> None:
        self._source, self._candidates, self._places = source, candidates, places

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        blurry, sharp = self._source.draw(count * self._candidates, size)
        left = ((_energy(blurry) + FLOOR) / (_energy(sharp) + FLOOR)).view(count, self._candidates)
        chosen = left.argmin(1).cpu() + torch.arange(count) * self._candidates
        as_it_comes = torch.from_numpy(self._places.random(count) < _UNCHOSEN)
        chosen = torch.where(as_it_comes, torch.arange(count) * self._candidates, chosen).to(blurry.device)
        return blurry[chosen], sharp[chosen]


def _energy(pictures: Tensor) -> Tensor:
    """(B,): mean squared forward difference."""
    across, down = pictures.diff(dim=-1).square(), pictures.diff(dim=-2).square()
    return across.flatten(1).mean(1) + down.flatten(1).mean(1)


def _open_piece(path: Path, key: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("made of") != key:
                raise InputError(f"{path}: was made by another expert or recipe; remove it, and it is made again")
            windows: Tensor = file.get_tensor("windows")  # mapped: the disk is read when a window is asked for
            return windows
    except (OSError, SafetensorError) as fault:
        raise InputError(f"{path}: damaged windows ({fault}); remove it, and it is made again") from fault


def _turn(triples: Tensor, generators: Generators) -> Tensor:
    turned = triples.rot90(int(generators.places.integers(4)), (3, 4))
    return turned.flip(4) if generators.places.random() < 0.5 else turned
