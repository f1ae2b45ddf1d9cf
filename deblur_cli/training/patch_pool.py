"""Ready pairs of patches, drawn from again and again."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from deblur_cli.training.recipe import DataConfig
from deblur_cli.training.sources import Generators, Mix, Source


class PatchPool:
    """A pool of ready pairs, or pairs with more pictures of them.

    Each batch replaces a few and draws from all, turned anew. Synthesis costs as much as a training step, so each
    patch serves `data.reuse` times on average.

    Args:
        side: of the patches in the pool; None for one that leaves each crop room to move.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, Source]],
        data: DataConfig,
        patch: int,
        generators: Generators,
        side: int | None = None,
    ) -> None:
        self._mix = Mix(sources, generators.places)
        self._data, self._patch, self._generators = data, patch, generators
        self._side = side or -(-patch * 7 // 5 // 16) * 16
        self._pool = torch.empty(0, dtype=torch.uint8, device=generators.pixels.device)  # made for the first patches
        self._filled = 0
        self._next = 0

    def batches(self, batch: int) -> Iterator[tuple[Tensor, ...]]:
        """Endless batches of what the sources draw, each (batch, 3, patch, patch), [0, 1]."""
        owed = 4.0 * batch
        while True:
            owed += batch / self._data.reuse
            while owed >= 4:
                self._refill(4)
                owed -= 4
            yield self._draw(batch)

    def _refill(self, count: int) -> None:
        patches = torch.stack(self._mix.draw(count, self._side), 1)  # (count, pictures, 3, side, side)
        if not len(self._pool):
            self._pool = self._pool.new_empty(self._data.pool, *patches.shape[1:])
        count = min(count, self._data.pool - self._next)
        self._pool[self._next : self._next + count] = (patches[:count] * 255).round().clamp(0, 255).byte()
        self._filled = max(self._filled, self._next + count)
        self._next = (self._next + count) % self._data.pool

    def _draw(self, batch: int) -> tuple[Tensor, ...]:
        places = self._generators.places
        drawn = []
        for index in places.integers(self._filled, size=batch):
            top, left = places.integers(self._side - self._patch + 1, size=2)
            pair = self._pool[index, :, :, top : top + self._patch, left : left + self._patch]
            pair = pair.rot90(int(places.integers(4)), (2, 3))
            drawn.append(pair.flip(3) if places.random() < 0.5 else pair)
        return (torch.stack(drawn).float() / 255).unbind(1)
