"""A blind deconvolution of seconds, for the tests."""

from deblur_cli.networks.deconvolver import DeconvolutionConfig
from deblur_cli.networks.kernel_estimation import KernelSearch

_FAST = KernelSearch(reach=8, turns=1, splitting=(2.0, 2e3, 8.0))
DECONVOLUTION = DeconvolutionConfig(
    128,
    64,
    _FAST,
    _FAST,
    ((1.0, 0.002), (2.2, 0.005)),
    ((1.0, 0.01),),
    agreement=-1.0,  # every kernel is believed, so that pictures without meaning are deconvolved, too
    corrections=((1.0, 0.2),),
    of_estimate=((1.0, 0.2),),
)
