"""A picture of features in strips, whose tokens are mixed: rows of blocks, and rows at one height of a grid's cells.

A processor without gradients takes one strip after the other through all its layers, so that what is between them stays
in its cache; elsewhere all strips are one tensor. The numbers are the same.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

_PIECE = 3 << 16  # numbers that are worth a call of every layer, and that a cache holds several times

Work = Callable[[Tensor], Tensor]


def is_lean(features: Tensor) -> bool:
    """Whether nothing but the numbers is wanted, of a processor: no gradients, no graph, no mixed formats."""
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")  # it would mix formats, which oneDNN refuses
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # no converter knows what is fused
    )


def over_strips(features: Tensor, side: int, at_grid: Work, at_blocks: Work) -> Tensor:
    """The sum of what two functions make of a picture, both strip by strip.

    Args:
        features: (B, H, W, C), H and W multiples of `side`.
        at_grid: takes tokens (B, S, side², P, C) to the same shape, for any number S of strips; a token is a place in
            each of `side` by `side` cells of the whole picture.
        at_blocks: the same; a token is a pixel in each block of `side` by `side`.
    Returns:
        (B, H, W, C).
    """
    features = features.contiguous()
    if not is_lean(features):
        return _over_all(features, side, at_grid, across=True) + _over_all(features, side, at_blocks, across=False)
    answer = torch.empty_like(features)
    sources, targets = (_lay_out(tensor, side, across=True) for tensor in (features, answer))
    for source, target in _cut(sources, targets):
        target.copy_(_run(at_grid, source))
    sources, targets = (_lay_out(tensor, side, across=False) for tensor in (features, answer))
    for source, target in _cut(sources, targets):
        target.add_(_run(at_blocks, source))
    return answer


def mix_tokens(tokens: Tensor, mix: nn.Linear) -> Tensor:
    """Mix the tokens of each channel and place by a matrix: (B, S, T, P, C) -> the same shape."""
    flat = tokens.flatten(3)
    if is_lean(tokens):
        matrices = mix.weight.expand(flat.shape[0] * flat.shape[1], -1, -1)
        return torch.baddbmm(mix.bias[:, None], matrices, flat.flatten(0, 1)).view(tokens.shape)
    mixed = torch.matmul(mix.weight[None, None], flat) + mix.bias[:, None]  # of as many axes: else it is all copied
    return mixed.view(tokens.shape)


def _lay_out(picture: Tensor, side: int, *, across: bool) -> Tensor:
    """(B, H, W, C) -> (B, S, side, side, P, C), a view."""
    count, height, width, channels = picture.shape
    rows, columns = height // side, width // side
    if across:
        return picture.view(count, side, rows, side, columns, channels).permute(0, 2, 1, 3, 4, 5)
    return picture.view(count, rows, side, columns, side, channels).permute(0, 1, 2, 4, 3, 5)


def _cut(*pictures: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of pictures that are laid out, side by side."""
    strips = max(1, _PIECE // pictures[0][:, 0].numel())
    return zip(*(torch.split(picture, strips, 1) for picture in pictures), strict=True)


def _run(work: Work, strips: Tensor) -> Tensor:
    return work(strips.flatten(2, 3)).view(strips.shape)


def _over_all(features: Tensor, side: int, work: Work, *, across: bool) -> Tensor:
    done = _run(work, _lay_out(features, side, across=across))
    order = (0, 2, 1, 3, 4, 5) if across else (0, 1, 2, 4, 3, 5)  # both are their own opposite
    return done.permute(order).reshape(features.shape)
