"""The expert's part in the training of what comes after it: pairs of patches become triples with its estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.backends import Backend, load_model, restore_image
from deblur_cli.restoration.contract import Enhancing
from deblur_cli.restoration.pipeline import quantize
from deblur_cli.training.sources import Source
from deblur_cli.weights import fetch
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel, resolve


@dataclass(frozen=True, slots=True)
class Estimator:
    """A frozen expert.

    Attributes:
        hashes: sha256 of each of its files by role, for the metadata of what is trained on it.
        plain: the same without its blend; None where it has none.
    """

    backend: Backend
    hashes: Mapping[str, str]
    plain: "Estimator | None" = None

    def estimate(self, blurry: Tensor) -> Tensor:
        """(B, 3, H, W), [0, 1], on the expert's device; any size."""
        if isinstance(self.backend, Enhancing):
            return torch.stack([self._restore_whole(picture) for picture in blurry])
        merged = torch.zeros_like(blurry)
        for tile in self.backend.tiling.lay(*blurry.shape[-2:]):
            rows, columns = (slice(span.start, span.start + span.length) for span in (tile.rows, tile.columns))
            below, crop = merged[..., rows, columns], blurry[..., rows, columns]
            height, width = crop.shape[-2:]
            missing = (0, tile.columns.length - width, 0, tile.rows.length - height)
            restored = self.backend.restore(functional.pad(crop, missing, mode="replicate"))[..., :height, :width]
            weights = tile.rows.weights[:height, None] * tile.columns.weights[:width]
            below += restored * weights.to(restored.device)
        return merged.clamp(0, 1)

    def _restore_whole(self, blurry: Tensor) -> Tensor:
        """(3, H, W), [0, 1]: both stages, as for a photo of 16 bits."""
        pixels = quantize(blurry.permute(1, 2, 0).cpu().clone(), np.dtype(np.uint16))
        restored = restore_image(pixels, self.backend).astype(np.float32) / 65535
        return torch.from_numpy(restored).permute(2, 0, 1).to(blurry.device)


def load_estimator(expert: str, device: torch.device) -> Estimator:
    """The expert that `--expert` names, with its blend if it has one.

    Raises:
        InputError: there is no such file or model, or the model is more than an expert.
        WeightsError: its weights are missing or damaged.
    """
    model = resolve(ModelSpec(expert=expert))
    whole, files = _load(model, device), model.entry.files
    if "blend" not in files:
        return whole
    plain = replace(model, entry=replace(model.entry, files={"expert": files["expert"]}))
    return replace(whole, plain=_load(plain, device))


def _load(model: ResolvedModel, device: torch.device) -> Estimator:
    """With the sha256 of each file that was loaded."""
    backend = load_model(model, device=str(device))
    return Estimator(backend, {role: fetch(file).sha256 for role, file in model.entry.files.items()})


class EstimatedSource:
    """A source of pairs whose pairs get the expert's estimate in their middle: blurry, estimate, sharp."""

    def __init__(self, source: Source, expert: Estimator) -> None:
        self._source, self._expert = source, expert

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """Three times (count, 3, size, size), [0, 1]."""
        blurry, sharp = self._source.draw(count, size)
        return blurry, self._expert.estimate(blurry), sharp


def with_estimates(
    sources: Sequence[tuple[float, Source]], expert: Estimator, plain_share: float = 0.0
) -> list[tuple[float, Source]]:
    """The same shares, with estimates; where the expert has a blend, `plain_share` of each is estimated without it."""
    experts = [(1.0, expert)] if expert.plain is None else [(1 - plain_share, expert), (plain_share, expert.plain)]
    return [
        (share * part, EstimatedSource(source, whose)) for share, source in sources for part, whose in experts if part
    ]
