"""What a manifest says, as values: a file of weights and a model that is made of files. Reads nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deblur_cli.errors import WeightsError

FileOrigin = Literal["bundled", "hub", "local", "page"]


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of weights, and the one place it comes from.

    Args:
        bytes, sha256: None where nobody has published them; the first use pins them.
        path: bundled, inside the package.
        repository, revision, name: on the Hub; the revision is a full commit.
        local: a path on this machine, from the user's manifest.
        page: where a person can fetch it by hand, for `deblur weights import`; `name` is then what it is called there.
        gated: the Hub asks for an account that has accepted the terms.
        source: where these figures were read.
    """

    key: str
    licence: str
    source: str
    bytes: int | None = None
    sha256: str | None = None
    path: str = ""
    repository: str = ""
    revision: str = ""
    name: str = ""
    local: str = ""
    page: str = ""
    gated: bool = False

    @property
    def kind(self) -> FileOrigin:
        """Where it comes from."""
        return "bundled" if self.path else "hub" if self.repository else "local" if self.local else "page"

    @property
    def origin(self) -> str:
        """The place it comes from, in one word that a person can look up."""
        hub = f"hf://{self.repository}@{self.revision}/{self.name}"
        return {"bundled": self.path, "hub": hub, "local": self.local, "page": self.page}[self.kind]

    @property
    def identity(self) -> str:
        """What tells these bytes from others: the sha256; before it is known, the place, a Hub commit included."""
        return self.sha256 or self.origin


@dataclass(frozen=True, slots=True)
class Score:
    """A published result: mean over the test photos of a data set, and who says so."""

    data: str
    psnr: float
    ssim: float
    source: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that `--model` can name: which backend runs it and which file plays which role.

    Args:
        files: role -> file.
        network: the architecture, for a backend that runs several; empty where only the file can tell.
        config: of the network, as its backend reads it; empty where the file's metadata has it.
        checkpoint_key: the key under which a pickled checkpoint keeps its tensors.
        tiling: `size`, `context` and `feather` in pixels; what is absent is the backend's to choose.
        dtypes: the number formats it was seen to work in; empty where nobody has looked.
        flow: how its flow runs where that is not the default, as `FlowSettings` names it. Network, config,
            checkpoint_key, tiling and dtypes then describe the expert.
        untrained: how to train what is missing, one line; empty for a model that can run.
        user: it comes from the user's manifest.
        aliases: what it was called before; these names go on working, and everything is told under the present one.
        listed: `deblur weights list` shows it without being asked for all.
        seconds_24mp: what a photo of 24 megapixels takes on two cores, where somebody has measured it.
    """

    name: str
    backend: str
    summary: str
    files: Mapping[str, WeightsFile]
    network: str = "dense_unet"
    config: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_key: str | None = None
    tiling: Mapping[str, int] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    flow: Mapping[str, Any] = field(default_factory=dict)
    untrained: str = ""
    user: bool = False
    aliases: tuple[str, ...] = ()
    listed: bool = False
    seconds_24mp: float | None = None

    def check_trained(self) -> None:
        """Raise WeightsError, with the line that says how to train it, when the model cannot run yet."""
        if self.untrained:
            raise WeightsError(f"{self.name}: is not trained yet; {self.untrained}")

    @property
    def takes_published_maxim(self) -> bool:
        """Whether its expert is a file as MAXIM's authors publish it, which is converted once."""
        file = self.files.get("expert")
        return self.network == "maxim" and file is not None and file.kind == "page"

    @property
    def hashes(self) -> dict[str, str]:
        """Role -> sha256, as the recipe stamp and the reports print them."""
        return {role: file.identity for role, file in self.files.items()}

    @property
    def bytes(self) -> int | None:
        """Size of all its files, each counted once; None when one is unknown."""
        sizes = [file.bytes for file in {file.key: file for file in self.files.values()}.values()]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the tool can run."""

    files: Mapping[str, WeightsFile]
    models: Mapping[str, ModelEntry]

    def resolve(self, name: str) -> str:
        """The present name of a model that is asked for by an old one; any other name as it is."""
        if name in self.models:
            return name
        return next((entry.name for entry in self.models.values() if name in entry.aliases), name)

    def has_model(self, name: str) -> bool:
        """Whether a model has this name or had it before."""
        return self.resolve(name) in self.models
