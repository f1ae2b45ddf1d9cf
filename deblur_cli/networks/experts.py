"""Every network that can be a fidelity expert, by its name in manifests, recipes and weights. One row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.needs import Expert


@dataclass(frozen=True, slots=True)
class ExpertKind:
    """An architecture.

    Attributes:
        network, config: its module, and the dataclass of its shape.
        reshape: a network in another shape that its weights fit; None where there is none but its own. Raises
            ValueError where they do not fit.
    """

    network: type[Expert]
    config: type[Any]
    reshape: Callable[[Any, Any], Expert] | None = None


EXPERTS: Mapping[str, ExpertKind] = {
    "dense_unet": ExpertKind(DenseUNet, DenseUNetConfig),
    "nafnet": ExpertKind(NAFNet, NAFNetConfig),
    "maxim": ExpertKind(Maxim, MaximConfig, Maxim.reshaped),
}


def find_expert(name: str) -> ExpertKind:
    """The kind of expert of that name; raises ValueError where there is none."""
    if name not in EXPERTS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(EXPERTS)}")
    return EXPERTS[name]
