"""The loss of JPEG compression as batched tensor operations: colour transform, 8x8 DCT, quantisation, and back.

Source of the tables and the quality rule: ITU-T T.81 annex K and the Independent JPEG Group's scaling.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
    51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
    120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
    99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def compress_as_jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG with 4:2:0 chroma leaves of a picture.

    Args:
        image: (B, 3, H, W), [0, 1].
        quality: (B,), 1 to 100, the usual scale.
    Returns:
        (B, 3, H, W), [0, 1].
    """
    height, width = image.shape[-2:]
    whole = functional.pad(image, (0, -width % 16, 0, -height % 16), mode="replicate")
    to_ycbcr = torch.tensor(_TO_YCBCR, device=image.device)
    ycbcr = torch.einsum("oc,bchw->bohw", to_ycbcr, whole * 255 - 128)
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    luma = _quantise_blocks(ycbcr[:, :1], _table(_LUMA, factor))
    chroma = functional.avg_pool2d(ycbcr[:, 1:], 2)
    chroma = _quantise_blocks(chroma, _table(_CHROMA, factor))
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    restored = torch.einsum("oc,bchw->bohw", torch.linalg.inv(to_ycbcr), torch.cat((luma, chroma), 1))
    return ((restored + 128) / 255).clamp(0, 1)[..., :height, :width]


def _table(values: tuple[int, ...], factor: Tensor) -> Tensor:
    table = torch.tensor(values, dtype=torch.float32, device=factor.device).view(1, 8, 8)
    return (table * factor[:, None, None]).round().clamp(1, 255)[:, None, None, None]  # (B, 1, 1, 1, 8, 8)


def _quantise_blocks(plane: Tensor, table: Tensor) -> Tensor:
    count, channels, height, width = plane.shape
    basis = _dct_basis(plane.device)
    blocks = plane.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / table).round() * table) @ basis
    return blocks.transpose(3, 4).reshape(count, channels, height, width)


def _dct_basis(device: torch.device) -> Tensor:
    index = torch.arange(8, device=device)
    basis = torch.cos((2 * index[None] + 1) * index[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
