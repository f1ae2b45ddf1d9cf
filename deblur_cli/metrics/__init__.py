"""The metrics of `deblur bench`, one row each: function, direction, unit, protocol.

Pure: no files and no printing. Adding a metric means adding a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from deblur_cli.errors import InputError
from deblur_cli.metrics import alignment, detail, fidelity, sharpness
from deblur_cli.metrics.sample import Sample

__all__ = ["METRICS", "PROTOCOLS", "Metric", "Sample", "choose_metrics", "default_metrics"]

Function = Callable[[Sample], float | None]
PROTOCOLS = ("full", "shift", "realblur", "koehler")

_EIGHT_BIT = "RGB, 8-bit (16-bit photos are rounded to 8 bit), sRGB-encoded, mean of per-image values"
_WINDOW = "11-tap Gaussian window, sigma 1.5, population covariance"
_SHIFT = "at the best whole-pixel shift within ±5 (by squared error), border of 5 cut, then: "


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the report.

    `function` may return `None` where the value is not defined; it raises ValueError or AlignmentError when
    this photo cannot be scored. LPIPS has `network` instead: its function needs weights, which the benchmark
    loads (metrics touch no files).
    """

    name: str
    direction: str  # "higher" or "lower" is better
    unit: str
    protocol: str
    function: Function | None = None
    needs_truth: bool = True
    network: Literal["alex", "vgg", "dists"] | None = None


def _shifted(metric: Metric) -> Metric:
    """The same metric after the best whole-pixel shift: for kernels that are not centred (Levin)."""

    def score(sample: Sample) -> float | None:
        if metric.function is None:
            raise ValueError(f"{metric.name} has no function yet")
        return metric.function(sample.once(alignment.shifted))

    return replace(metric, name=f"{metric.name}-shift", protocol=_SHIFT + metric.protocol, function=score, network=None)


_BASE = (
    Metric("psnr", "higher", "dB", f"full image, peak 255, {_EIGHT_BIT}", fidelity.psnr),
    Metric(
        "ssim3d",
        "higher",
        "",
        f"3-D window over (H, W, C) as in BasicSR/NAFNet and MATLAB, {_WINDOW}, {_EIGHT_BIT}",
        fidelity.ssim_volume,
    ),
    Metric(
        "ssim",
        "higher",
        "",
        f"2-D per channel as scikit-image, windows wholly inside, {_WINDOW}, {_EIGHT_BIT}",
        fidelity.ssim,
    ),
    Metric("lpips", "lower", "", f"LPIPS v0.1, AlexNet, full image, {_EIGHT_BIT}", network="alex"),
    Metric("lpips-vgg", "lower", "", f"LPIPS v0.1, VGG16, full image, {_EIGHT_BIT}", network="vgg"),
    Metric("dists", "lower", "", f"DISTS, VGG16, full image, not reduced to 256 pixels, {_EIGHT_BIT}", network="dists"),
    Metric(
        "detail",
        "lower",
        "",
        f"mean |ln(gradient energy of restored / of sharp)| over 16x16 blocks of luma, {_EIGHT_BIT}",
        detail.detail,
    ),
    Metric(
        "detail_corr",
        "higher",
        "",
        f"correlation over 16x16 blocks of gradient energy added with gradient energy missing, {_EIGHT_BIT}",
        detail.detail_correlation,
    ),
)
_OTHERS = (
    Metric(
        "blur_effect",
        "lower",
        "",
        f"no reference: Crete et al. 2007 on luma, window 11, as scikit-image; {_EIGHT_BIT}",
        sharpness.blur_effect,
        needs_truth=False,
    ),
    Metric(
        "psnr-realblur",
        "higher",
        "dB",
        "RealBlur's official alignment: gain, ECC homography, valid pixels; mean of per-image values",
        alignment.psnr_realblur,
    ),
    Metric(
        "ssim-realblur",
        "higher",
        "",
        f"RealBlur's official alignment, then 2-D per channel, {_WINDOW}, border of 5 cut, valid pixels only",
        alignment.ssim_realblur,
    ),
    Metric(
        "psnr-koehler",
        "higher",
        "dB",
        "Köhler et al. 2012: gain and whole-pixel shift, best of the trajectory's frames",
        alignment.psnr_koehler,
    ),
)

METRICS = {
    metric.name: metric for metric in (*_BASE, *_OTHERS, *(_shifted(metric) for metric in _BASE if metric.function))
}
_DEFAULTS = ("psnr", "ssim3d", "ssim", "lpips", "detail", "detail_corr", "blur_effect")


def default_metrics(has_truth: bool) -> tuple[str, ...]:
    """The columns computed when none is named."""
    return tuple(name for name in _DEFAULTS if has_truth or not METRICS[name].needs_truth)


def choose_metrics(names: tuple[str, ...], protocol: str, has_truth: bool) -> list[Metric]:
    """Rows for the names under a protocol: `psnr` under `shift` is `psnr-shift`.

    A metric that the protocol does not define keeps its plain form; one that needs a truth is left out where
    there is none. "-" and "_" are the same in a name.

    Raises:
        InputError: unknown metric or protocol; lists the known ones.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: unknown; known are auto, {', '.join(PROTOCOLS)}")
    rows = [_find_metric(f"{name}-{protocol}", name) for name in names or default_metrics(has_truth)]
    return list({row.name: row for row in rows if has_truth or not row.needs_truth}.values())


def _find_metric(*names: str) -> Metric:
    known = {name.replace("_", "-"): metric for name, metric in METRICS.items()}
    for name in names:
        if metric := known.get(name.replace("_", "-")):
            return metric
    raise InputError(f"--metrics {names[-1]}: unknown metric; known are {', '.join(METRICS)}")
