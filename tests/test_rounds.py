"""A blend in rounds: an answer counts where it explains the photo much better than the one before."""

import torch
from support.shaken_blocks import shake_blocks
from torch import Tensor

from deblur_cli.networks.deconvolver import DeconvolutionConfig, Deconvolver
from deblur_cli.networks.kernel_estimation import KernelSearch
from deblur_cli.networks.rounds import Rounds

SEARCH = KernelSearch(reach=8)
DECONVOLVER = Deconvolver(DeconvolutionConfig(256, 192, SEARCH, SEARCH, ((1.0, 0.001),), ()))


def with_errors(sharp: Tensor, size: float) -> Tensor:
    """An estimate that is wrong in ways that no kernel explains."""
    return sharp + size * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(1))


def test_an_answer_that_explains_the_photo_better_counts() -> None:
    sharp, blurry = shake_blocks()
    before = with_errors(sharp, 0.1)
    worse, better, best = (
        DECONVOLVER.share_windows(blurry, before, with_errors(sharp, size), progress=0.87).item()
        for size in (0.11, 0.0805, 0.05)
    )
    assert worse == 0
    assert 0.1 < better < 0.9
    assert best == 1


def test_a_picture_that_explains_everything_stays() -> None:
    flat = torch.full((1, 3, 256, 256), 0.5)
    other = flat + 0.1 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(1))
    assert DECONVOLVER.share_windows(flat, flat, other, progress=0.87).item() == 0


def test_an_answer_counts_where_it_is_better_and_nowhere_else() -> None:
    sharp, blurry = (torch.cat((picture, picture), -1) for picture in shake_blocks())
    before, after = with_errors(sharp, 0.1), with_errors(sharp, 0.1)
    after[..., 192:] = with_errors(sharp, 0.05)[..., 192:]
    share = DECONVOLVER.share(blurry, before, after, progress=0.87)
    assert share.shape == (1, 1, 192, 384)
    assert share[..., :100].max() == 0
    assert share[..., 284:].min() == 1


class Counted:
    """A deconvolution that gives the estimate back, and how often it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, photo: Tensor, estimate: Tensor, changed: Tensor) -> Tensor:
        self.calls += 1
        return estimate[:, None]


def run(shares: list[float], count: int) -> tuple[list[float], int]:
    """What each round answers if every round adds 1 to its estimate, and how many deconvolutions there are.

    Args:
        shares: how much of each round counts; of the first, whether another one follows.
    """
    deconvolve, left = Counted(), iter(shares)
    rounds = Rounds(
        lambda versions: versions[:, 1] + 1,
        deconvolve,
        lambda photo, before, after, changed: torch.full((1, 1, 1, 1), float(next(left))),
    )
    versions = torch.tensor([0.0, 5.0, 7.0, 5.0])[None, :, None, None, None].expand(1, 4, 3, 2, 2)
    answers = []
    for seen, answer in rounds.run(versions, count):
        assert seen[0, 2].unique().tolist() == [7]  # the second expert, or what half the size gave
        answers.append(answer.unique().item())
    return answers, deconvolve.calls


def test_every_round_begins_with_what_counted_of_the_last() -> None:
    assert run([1, 1, 0.5, 1], 4) == ([6, 7, 7.5, 8.5], 3)


def test_no_round_follows_one_that_counts_nowhere() -> None:
    assert run([1, 1, 0], 4) == ([6, 7, 7], 2)


def test_no_round_follows_a_first_one_that_explains_nothing_better() -> None:
    assert run([0], 4) == ([6], 0)


def test_one_round_deconvolves_no_more() -> None:
    assert run([], 1) == ([6], 0)


def test_a_window_that_stayed_the_same_is_not_deconvolved_again() -> None:
    sharp, blurry = (torch.cat((picture, picture), -1) for picture in shake_blocks())
    estimate, changed = torch.lerp(blurry, sharp, 0.6), torch.zeros(1, 1, 192, 384)
    changed[..., 192:] = 1
    again = DECONVOLVER.deconvolve(blurry, estimate, changed)[:, 0]
    assert torch.allclose(again[..., :100], estimate[..., :100], atol=1e-6)
    assert (again - estimate)[..., 284:350].abs().max() > 0.01
    share = DECONVOLVER.share(blurry, with_errors(sharp, 0.1), with_errors(sharp, 0.05), changed, progress=0.87)
    assert share[..., :100].max() == 0
    assert share[..., 284:].min() == 1


def test_nothing_counts_where_nothing_changed() -> None:
    sharp, blurry = shake_blocks()
    nowhere = torch.zeros(1, 1, 1, 1)
    assert DECONVOLVER.share_windows(blurry, blurry, sharp, nowhere, progress=0.87).item() == 0
