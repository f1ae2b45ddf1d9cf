"""A picture of features in strips, whose tokens are mixed: rows of blocks, and rows at one height of a grid's cells.

A processor without gradients takes one strip after the other through all its layers, so that what is between them stays
in its cache; elsewhere all strips are one tensor. The numbers are the same.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

_PIECE = 3 << 16  # numbers that are worth a call of every layer, and that a cache holds several times


def is_lean(features: Tensor) -> bool:
    """Whether nothing but the numbers is wanted, of a processor: no gradients, no graph, no mixed formats."""
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")  # it would mix formats, which oneDNN refuses
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # no converter knows what is fused
    )


def over_strips(
    features: Tensor,
    side: int,
    norm: nn.Module,
    at_grid: Callable[[Tensor, Tensor], Tensor],
    at_blocks: Callable[[Tensor], Tensor],
) -> Tensor:
    """The sum of what two functions make of a picture, both strip by strip.

    Args:
        features: (B, H, W, C), H and W multiples of `side`.
        norm: of the channels, before either.
        at_grid: takes tokens (B, S, side², P, C), and them normed, to the same shape, for any number S of strips; a
            token is a place in each of `side` by `side` cells of the whole picture.
        at_blocks: takes normed tokens alone; a token is a pixel in each block of `side` by `side`.
    Returns:
        (B, H, W, C).
    """
    features = features.contiguous()
    if not is_lean(features):
        normed = norm(features)
        grid, normed_grid = (_lay_out(tensor, side, across=True) for tensor in (features, normed))
        done = at_grid(grid.flatten(2, 3), normed_grid.flatten(2, 3)).view(grid.shape)
        blocks = _lay_out(normed, side, across=False)
        rest = at_blocks(blocks.flatten(2, 3)).view(blocks.shape)
        return _restore(done, features, across=True) + _restore(rest, features, across=False)
    normed, answer = torch.empty_like(features), torch.empty_like(features)
    for tokens, kept, target in _cut(features, normed, answer, side=side, across=True):
        strips = tokens.flatten(2, 3)
        inner = norm(strips)
        kept.copy_(inner.view(kept.shape))
        target.copy_(at_grid(strips, inner).view(target.shape))
    for tokens, target in _cut(normed, answer, side=side, across=False):
        target.add_(at_blocks(tokens.flatten(2, 3)).view(target.shape))
    return answer


def mix_tokens(tokens: Tensor, mix: nn.Linear) -> Tensor:
    """Mix the tokens of each channel and place by a matrix: (B, S, T, P, C) -> the same shape."""
    flat = tokens.flatten(3)
    if is_lean(tokens):
        matrices = mix.weight.expand(flat.shape[0] * flat.shape[1], -1, -1)
        return torch.baddbmm(mix.bias[:, None], matrices, flat.flatten(0, 1)).view(tokens.shape)
    mixed = torch.matmul(mix.weight[None, None], flat)  # of as many axes: else it is all copied
    return (mixed + mix.bias[:, None].to(mixed.dtype)).view(tokens.shape)  # which autocast would make float32


def _lay_out(picture: Tensor, side: int, *, across: bool) -> Tensor:
    """(B, H, W, C) -> (B, S, side, side, P, C), a view."""
    count, height, width, channels = picture.shape
    rows, columns = height // side, width // side
    if across:
        return picture.view(count, side, rows, side, columns, channels).permute(0, 2, 1, 3, 4, 5)
    return picture.view(count, rows, side, columns, side, channels).permute(0, 1, 2, 4, 3, 5)


def _restore(done: Tensor, like: Tensor, *, across: bool) -> Tensor:
    """The opposite of `_lay_out`."""
    return done.permute((0, 2, 1, 3, 4, 5) if across else (0, 1, 2, 4, 3, 5)).reshape(like.shape)


def _cut(*pictures: Tensor, side: int, across: bool) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of pictures that are laid out, side by side."""
    laid_out = [_lay_out(picture, side, across=across) for picture in pictures]
    strips = max(1, _PIECE // laid_out[0][:, 0].numel())
    return zip(*(torch.split(picture, strips, 1) for picture in laid_out), strict=True)
