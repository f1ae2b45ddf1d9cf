"""The mean of an expert's answers to a photo and to its mirror image."""

import dataclasses

import torch
from support.fake_backend import FakeBackend
from torch import Tensor

from deblur_cli.backends import load_model
from deblur_cli.backends.self_ensemble import SelfEnsemble
from deblur_cli.weights.model_spec import ModelSpec, resolve


def lean(blurry: Tensor) -> Tensor:
    """An expert that errs to the right."""
    return blurry.roll(1, -1)


def test_errs_on_both_sides_alike() -> None:
    photo = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1))
    expected = (photo.roll(1, -1) + photo.roll(-1, -1)) / 2
    assert torch.allclose(SelfEnsemble(FakeBackend(lean)).restore(photo), expected)


def test_a_model_asks_its_expert_twice() -> None:
    """Mirrored, a piece gives the mirrored picture, which an expert alone does not."""
    piece = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain = resolve(ModelSpec("quick"))
    both = dataclasses.replace(plain, entry=dataclasses.replace(plain.entry, self_ensemble=True))
    for model, is_even in ((plain, False), (both, True)):
        backend = load_model(model, device="cpu", dtype="float32")
        assert torch.allclose(backend.restore(piece.flip(-1)).flip(-1), backend.restore(piece), atol=1e-5) is is_even
