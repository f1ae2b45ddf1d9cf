"""Every network that can be a fidelity expert, by its name in manifests, recipes and weights. One row each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.needs import Needs


class ExpertConfig(Protocol):
    """The shape of an expert, a dataclass."""

    @property
    def needs(self) -> Needs: ...


@runtime_checkable
class Expert(Protocol):
    """A network that predicts what is missing in a blurred photo."""

    config: Any

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """(B, 3, H, W) in any number format -> (B, 3, H, W) in the network's."""


@dataclass(frozen=True, slots=True)
class ExpertKind:
    """An architecture: its module and the dataclass of its shape."""

    network: type[nn.Module]
    config: Any  # a class


EXPERTS: Mapping[str, ExpertKind] = {
    "dense_unet": ExpertKind(DenseUNet, DenseUNetConfig),
    "nafnet": ExpertKind(NAFNet, NAFNetConfig),
    "maxim": ExpertKind(Maxim, MaximConfig),
}


def find_expert(name: str) -> ExpertKind:
    """The kind of expert of that name; raises ValueError where there is none."""
    if name not in EXPERTS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(EXPERTS)}")
    return EXPERTS[name]
