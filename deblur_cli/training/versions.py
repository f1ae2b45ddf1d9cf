"""The training pairs of a blend: patches with all versions of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.checkpoint import PICKLED, check_tensors, find_weights, load_tensors, read_content, read_metadata
from deblur_cli.networks.deconvolver import BlindKernels, Deconvolver
from deblur_cli.networks.rounds import Rounds
from deblur_cli.networks.version_blend import ESTIMATE, BlendConfig, VersionBlend, add_coarser, stack_versions
from deblur_cli.system.typed_tables import TableFault, read_table
from deblur_cli.training.estimates import Estimator
from deblur_cli.training.sources import Source

_SCALES = (1, 2, 4)  # at which a picture is looked at that is to be as one found at half the size: it may come from
# below; at 1 nothing was found, as in a picture whose half would be too small
_BORDER = 32  # pixels that a window has around its patch where no deconvolution asks for more
_DOUBT = -2.0  # of a version that the weights to begin with do not know, against the estimate, as a logit: at -5 the
# softmax lets no gradient through, and after 3,000 steps nothing had been learned
_GRID = 8  # pixels, of the windows in a picture


class VersionSource:
    """A source of pairs whose patches are the middles of windows: every version of the blurry one, and sharp.

    What was found at a coarser scale comes from the whole picture that a window lies in, made smaller to the window's
    size; at a scale of 4 a picture is large enough for four windows, at 1 it is the window itself and stands for what
    was found. Where the blend works in rounds, any of them may be the one: those before are the blend's as it is then.
    """

    def __init__(
        self, source: Source, experts: Sequence[Estimator], blend: VersionBlend, places: np.random.Generator
    ) -> None:
        self._source, self._experts, self._blend, self._places = source, experts, blend, places
        self._config = config = blend.config
        self._deconvolver = None if config.deconvolution is None else Deconvolver(config.deconvolution)

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """As many times (count, 3, size, size), [0, 1], as there are versions, and one more."""
        border = self._config.deconvolution.border if self._config.deconvolution else _BORDER
        inner = (..., slice(border, -border), slice(border, -border))
        return self._draw_windows(count, size + 2 * border)[inner].unbind(1)

    def _draw_windows(self, count: int, side: int) -> Tensor:
        """(count, versions + 1, 3, side, side)."""
        if not self._config.coarser:
            blurry, sharp = self._source.draw(count, side)
            return self._stack([blurry, *self._estimate(blurry)], sharp)
        scale = int(self._places.choice(_SCALES))
        each = min(count, max(1, scale * scale // 4))
        blurry, sharp = self._source.draw(-(-count // each), scale * side)
        found = blurry if scale == 1 else self._find(blurry, scale)
        windows = [(index % len(blurry), *self._place(blurry, side)) for index in range(count)]
        photo, coarse, truth = (
            torch.stack([pictures[index, :, rows, columns] for index, rows, columns in windows])
            for pictures in (blurry, found, sharp)
        )
        return self._stack([photo, *self._estimate(photo), coarse], truth)

    def _estimate(self, blurry: Tensor) -> list[Tensor]:
        return [expert.estimate(blurry) for expert in self._experts]

    def _find(self, pictures: Tensor, scale: int) -> Tensor:
        small = functional.avg_pool2d(pictures, scale)
        return add_coarser(pictures, self._experts[0].estimate(small) - small, scale)

    def _place(self, pictures: Tensor, side: int) -> tuple[slice, slice]:
        places = (int(self._places.integers((length - side) // _GRID + 1)) * _GRID for length in pictures.shape[-2:])
        top, left = places
        return slice(top, top + side), slice(left, left + side)

    def _stack(self, pictures: Sequence[Tensor], sharp: Tensor) -> Tensor:
        if self._deconvolver is None:
            return torch.stack([*pictures, sharp], 1)
        rounds = Rounds.of_windows(self._blend, self._deconvolver, self._config.progress, BlindKernels())
        versions = stack_versions(pictures, rounds.deconvolve(pictures[0], pictures[ESTIMATE]))
        if self._config.rounds > 1:
            *_, (versions, _) = rounds.run(versions, 1 + int(self._places.integers(self._config.rounds)))
        return torch.cat((versions, sharp[:, None]), 1)


def with_versions(
    sources: Sequence[tuple[float, Source]],
    experts: Sequence[Estimator],
    blend: VersionBlend,
    places: np.random.Generator,
) -> list[tuple[float, Source]]:
    """The same shares, with all versions; `experts` are the first and perhaps the second."""
    return [(share, VersionSource(source, experts, blend, places)) for share, source in sources]


def load_known(network: VersionBlend, path: Path) -> None:
    """Weights to begin with, which may know only some of the network's versions, as the file's own config names them.

    A version is known by its name, or by all of it but the strength of its penalty. One that they do not know is not
    seen at first, and believed a seventh as much as the estimate.

    Raises:
        WeightsError: the file is missing or damaged, or its network is another in all but its versions.
    """
    table = check_tensors(find_weights(read_content(path), network.state_dict()), path)
    known, names = _read_config(path), network.config.names
    if known is not None and known.names != names and {*map(_kind, known.names)} <= {*map(_kind, names)}:
        load_tensors(VersionBlend(known), table, path)  # they are of the shapes that the file tells
        table = _grow(table, _find_known(names, known.names))
    load_tensors(network, table, path)


def _find_known(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """The place of each version among those known: the same, else the one in the same place of its kind."""
    places: list[int | None] = []
    for index, name in enumerate(names):
        alike = [place for place, other in enumerate(known) if _kind(other) == _kind(name)]
        before = sum(_kind(other) == _kind(name) for other in names[:index])
        exact = [place for place in alike if known[place] == name]
        places.append(next(iter(exact or alike[min(before, len(alike) - 1) :]), None))
    return places


def _kind(name: str) -> str:
    """A version's name without the strength of its penalty."""
    return name.rpartition(", ")[0] or name


def _read_config(path: Path) -> BlendConfig | None:
    """Of the blend in a file; None where it does not tell."""
    if path.suffix.lower() in PICKLED:
        return None
    try:
        return read_table(BlendConfig, read_metadata(path).get("config"))
    except TableFault:
        return None


def _grow(table: Mapping[str, Tensor], places: Sequence[int | None]) -> dict[str, Tensor]:
    """The weights for more versions: each has a place among those that they know, or none."""
    stem, weight, bias = (table[name].float() for name in ("stem.weight", "head.weight", "head.bias"))
    blocks = stem.reshape(len(stem), len(bias), -1, 1, 1)
    unseen = torch.zeros_like(blocks[:, 0])
    grown = {
        "stem.weight": torch.cat([unseen if place is None else blocks[:, place] for place in places], 1),
        "head.weight": torch.stack([weight[ESTIMATE if place is None else place] for place in places]),
        "head.bias": torch.stack([bias[ESTIMATE] + _DOUBT if place is None else bias[place] for place in places]),
    }
    return dict(table) | grown
