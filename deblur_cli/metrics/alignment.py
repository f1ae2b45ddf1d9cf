"""Protocols for truths that are not pixel-aligned: whole-pixel shift, RealBlur's homography, Köhler's frames.

Pure: no files. OpenCV is needed by RealBlur's protocol only and comes with the extra `bench`.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import InputError
from deblur_cli.metrics.fidelity import similarity_maps, to_decibel
from deblur_cli.metrics.sample import Pixels8, Sample, to_float

MAX_SHIFT = 5
_CUT = 5  # border outside the SSIM window's reach


class AlignmentError(Exception):
    """The two photos could not be brought together; the score of this photo stays empty."""


def shifted(sample: Sample) -> Sample:
    """Restored and blurry moved by the best whole-pixel shift within ±5, all three cut by 5 pixels.

    The blurry photo moves with the restored one, so that detail is counted at the same places.

    Raises:
        ValueError: nothing would be left.
    """
    down, right = best_shift(sample.restored, sample.sharp, sample.device)
    height, width, _ = sample.sharp.shape
    rows = slice(MAX_SHIFT + down, height - MAX_SHIFT + down)
    columns = slice(MAX_SHIFT + right, width - MAX_SHIFT + right)
    centre = sample.sharp[MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT]
    return Sample(sample.restored[rows, columns], sample.blurry[rows, columns], centre, sample.device)


def registered(sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """RealBlur's alignment of restored to sharp: (restored, sharp, mask), float32 (H, W, 3), 0..1."""
    return register_homography(sample.restored, sample.sharp)


def best_shift(restored: Pixels8, sharp: Pixels8, device: torch.device | str = "cpu") -> tuple[int, int]:
    """(down, right) within ±5 pixels that brings the restored photo nearest to the truth's centre.

    Sum (a-b)^2 = sum a^2 + sum b^2 - 2 sum ab: the first is a running sum, the second the same for all 121
    shifts, the third one FFT.
    """
    height, width, _ = sharp.shape
    if min(height, width) <= 2 * MAX_SHIFT:
        raise ValueError(f"the shift protocol needs at least {2 * MAX_SHIFT + 1} pixels a side")
    spot = np.s_[MAX_SHIFT : height - MAX_SHIFT, MAX_SHIFT : width - MAX_SHIFT]
    template = np.full_like(sharp, 128)  # 128 counts as zero below
    template[spot] = sharp[spot]
    a, b = (torch.fft.rfft2(_planes(pixels, device)) for pixels in (restored, template))
    product = torch.fft.irfft2((a * b.conj()).sum(dim=0), s=(height, width))
    reach = torch.arange(-MAX_SHIFT, MAX_SHIFT + 1, device=product.device)
    errors = _window_energy(restored, device) - 2 * product[reach % height][:, reach % width]
    row, column = divmod(int(errors.argmin()), 2 * MAX_SHIFT + 1)
    return row - MAX_SHIFT, column - MAX_SHIFT


def register_homography(restored: Pixels8, sharp: Pixels8) -> tuple[Tensor, Tensor, Tensor]:
    """Gain, ECC homography and validity mask of RealBlur's official evaluation.

    Source: `evaluation_RealBlur_ecc.py` of rimchang/RealBlur (Rim et al. 2020), its protocol re-implemented.

    Raises:
        AlignmentError: ECC does not converge, as on a flat photo.
        InputError: OpenCV is not installed.
    """
    cv2 = _load_opencv()
    truth = np.asarray(sharp / np.float32(255), dtype=np.float32)
    image = np.asarray(restored / np.float32(255), dtype=np.float32)
    image *= np.sum(truth * image) / max(float(np.sum(image * image)), 1e-12)
    matrix = _find_homography(cv2, truth, image)
    size = (truth.shape[1], truth.shape[0])
    warped = cv2.warpPerspective(
        image, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    mask = cv2.warpPerspective(
        np.ones_like(image), matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=0
    )
    if not mask.any():
        raise AlignmentError("the alignment moved the photo out of the frame")
    return torch.from_numpy(warped * mask), torch.from_numpy(truth * mask), torch.from_numpy(mask)


def psnr_realblur(sample: Sample) -> float:
    """PSNR over the valid pixels after RealBlur's alignment."""
    restored, sharp, mask = sample.once(registered)
    error = float((restored - sharp).double().square().sum()) / float(mask.double().sum())
    return to_decibel(error, peak=1.0)


def ssim_realblur(sample: Sample) -> float:
    """2-D SSIM over the valid pixels after RealBlur's alignment, 5 pixels of border cut."""
    restored, sharp, mask = sample.once(registered)
    centre = (slice(_CUT, -_CUT), slice(_CUT, -_CUT))
    weights = mask[centre].double()
    masked = similarity_maps(restored, sharp).permute(1, 2, 0)[centre].double() * weights
    return float((masked.sum(dim=(0, 1)) / weights.sum(dim=(0, 1))).mean())


def psnr_koehler(sample: Sample) -> float:
    """PSNR against one trajectory frame after Köhler et al. 2012: gain, whole-pixel shift, zero fill.

    Source: their `eval_image.m`; the caller takes the best of all frames.
    """
    truth, image = (pixels.astype(np.float64) for pixels in (sample.sharp, sample.restored))
    image *= np.sum(truth * image) / max(float(np.sum(image * image)), 1e-12)
    down, right = _correlation_peak(truth.mean(axis=2), image.mean(axis=2))
    moved, mask = _shift(image, down, right), _shift(np.ones_like(image), down, right)
    return to_decibel(float(np.mean((truth * mask - moved) ** 2)))


def _planes(pixels: Pixels8, device: torch.device | str) -> Tensor:
    """(3, H, W) float64 with 128 as zero, so that the sums keep their digits (MPS has float32 only)."""
    precision = torch.float32 if torch.device(device).type == "mps" else torch.float64
    return (to_float(pixels, device).to(precision) - 128).permute(2, 0, 1)


def _window_energy(restored: Pixels8, device: torch.device | str) -> Tensor:
    """Sum of (a - 128)^2 of the cut window at each of the 11x11 shifts."""
    energy = _planes(restored, device).square().sum(dim=0)
    sums = torch.nn.functional.pad(energy.cumsum(0).cumsum(1), (1, 0, 1, 0))
    height, width = (side - 2 * MAX_SHIFT for side in energy.shape)
    corner = 2 * MAX_SHIFT + 1
    low, high = slice(0, corner), (slice(height, height + corner), slice(width, width + corner))
    return sums[high[0], high[1]] - sums[low, high[1]] - sums[high[0], low] + sums[low, low]


def _load_opencv() -> Any:
    try:
        import cv2  # type: ignore[import-not-found, unused-ignore]
    except ImportError as fault:
        raise InputError(
            "the realblur protocol needs OpenCV: pip install 'deblur-cli[bench]', or use --protocol full"
        ) from fault
    return cv2


def _find_homography(cv2: Any, truth: NDArray[np.float32], image: NDArray[np.float32]) -> Any:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    grey = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in (truth, image)]
    start = np.eye(3, dtype=np.float32)
    try:
        # By keyword: the order of the last two differs between OpenCV versions.
        _, matrix = cv2.findTransformECC(*grey, start, cv2.MOTION_HOMOGRAPHY, criteria, inputMask=None, gaussFiltSize=5)
    except cv2.error as fault:
        raise AlignmentError("the alignment did not converge") from fault
    return matrix


def _correlation_peak(truth: NDArray[np.float64], image: NDArray[np.float64]) -> tuple[int, int]:
    """Circular shift of the image that matches the truth best, signed."""
    spectrum = np.fft.rfft2(truth) * np.fft.rfft2(image).conj()
    peak = int(np.argmax(np.abs(np.fft.irfft2(spectrum, s=truth.shape))))
    row, column = divmod(peak, truth.shape[1])
    height, width = truth.shape
    return row - height * (row > height // 2), column - width * (column > width // 2)


def _shift(image: NDArray[np.float64], down: int, right: int) -> NDArray[np.float64]:
    """The image moved down and right, zeros where nothing is known."""
    height, width = image.shape[:2]
    moved = np.zeros_like(image)
    target = np.s_[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    source = np.s_[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    moved[target] = image[source]
    return moved
