"""What the two halves of `deblur run` hand each other. Knows no torch before a model is loaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deblur_cli.backends import Backend, Pixels, Watch
    from deblur_cli.batch.plan import Plan
    from deblur_cli.batch.selection import Place
    from deblur_cli.batch.stages import WriteOrder
    from deblur_cli.weights.model_spec import ResolvedModel


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What a worker must know to restore photos, in this process or on another machine; it can be pickled.

    Attributes:
        model, device, dtype: as for `load_model`.
        tile, seed: as for `restore_image`.
    """

    model: "ResolvedModel"
    device: str
    dtype: str
    tile: int | None
    seed: int

    def load(self, cores: int | None = None) -> "LoadedModel":
        """The model, ready to restore.

        Args:
            cores: for this process, where it has not the machine for itself.
        Raises:
            BackendError, WeightsError: as `load_model`.
        """
        from deblur_cli.backends import load_model

        if cores is not None:
            import torch

            torch.set_num_threads(cores)
        return LoadedModel(load_model(self.model, device=self.device, dtype=self.dtype), self.tile, self.seed)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What an order becomes where the work is done: the function `Restore` of a batch."""

    backend: "Backend"
    tile: int | None
    seed: int

    @property
    def device(self) -> str:
        """Where it runs, as torch names it."""
        return str(self.backend.device)

    @property
    def dtype(self) -> str:
        """In which number format."""
        return str(self.backend.dtype).removeprefix("torch.")

    def __call__(self, blurry: "Pixels", watch: "Watch", place: "Place | None" = None) -> "Pixels":
        """The photo, restored as `restore_image` does it, or a place of it, as `restore_crop` does."""
        from deblur_cli.backends import restore_crop, restore_image

        if place is None:
            return restore_image(blurry, self.backend, tile=self.tile, seed=self.seed, watch=watch)
        return restore_crop(blurry, self.backend, *place, tile=self.tile, seed=self.seed, watch=watch)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the run behaves towards whoever watches it."""

    as_object: bool
    as_lines: bool
    quiet: bool
    verbose: bool
    fail_fast: bool


@dataclass(frozen=True, slots=True)
class RunTask:
    """Everything that `deblur run` knows once the plan is made."""

    plan: "Plan"
    restore_order: RestoreOrder
    write_order: "WriteOrder"
    manner: Manner
    ray: str | None = None  # address of the cluster that does it
