"""What a manifest says, as values: a file of weights, a model that is made of files, a flow on top. Reads nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from deblur_cli.errors import WeightsError
from deblur_cli.system.typed_tables import Rule, require
from deblur_cli.weights import rules

Text = Annotated[str, Rule("a text", rules.is_text)]
MOST_STEPS = 1000
BLENDING = ("second", "blend")  # roles beside an expert that belong to it: another one, and what weighs both
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
    licence: Text
    source: Text
    bytes: Annotated[int | None, Rule("a whole number above 0", rules.is_size)] = None
    sha256: Annotated[str | None, Rule("64 hex digits, lower case", rules.is_sha256)] = None
    path: Annotated[str, Rule("a relative path inside the package", rules.is_inside)] = ""
    repository: Annotated[str, Rule("OWNER/NAME", rules.is_repository)] = ""
    revision: Annotated[str, Rule("a full commit of 40 hex digits, lower case", rules.is_revision)] = ""
    name: Annotated[str, Rule("a path inside the repository, or what a page calls the file", rules.is_inside)] = ""
    local: Text = ""
    page: Annotated[str, Rule("an https:// address", rules.is_page)] = ""
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

    data: Text
    psnr: float
    ssim: float
    source: Text


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
    backend: Text
    summary: Text
    files: Mapping[str, WeightsFile]
    network: Text = "dense_unet"
    config: Annotated[Mapping[str, Any], Rule("a table of plain values", rules.is_config)] = field(default_factory=dict)
    checkpoint_key: Annotated[str | None, Rule("a text", rules.is_text)] = None
    tiling: Annotated[Mapping[str, int], Rule("a table of size, context, feather in pixels", rules.is_tiling)] = field(
        default_factory=dict
    )
    dtypes: Annotated[tuple[str, ...], Rule("a list of float32, bfloat16", rules.are_dtypes)] = ()
    scores: tuple[Score, ...] = ()
    flow: Mapping[str, Any] = field(default_factory=dict)
    untrained: Text = ""
    user: bool = False
    aliases: Annotated[tuple[str, ...], Rule("a list of names", rules.are_names)] = ()
    listed: bool = False
    seconds_24mp: Annotated[float | None, Rule("a number above 0", rules.is_positive)] = None

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
    def is_expert(self) -> bool:
        """Whether it is an expert alone, perhaps with a blend, and nothing comes after it."""
        return {"expert"} <= self.files.keys() <= {"expert", *BLENDING}

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


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """How the second stage of a dual expert works.

    Attributes:
        steps: Euler steps from the expert's estimate to the end of the path, 1 to 1000.
        strength: how much of the flow's residual is added, 0 (the estimate itself) to 1.
        start_noise: standard deviation of the noise that the path starts with, 0 to 1; latents have about 1.
        generic_noise: None for an adapted flow. For a base without adapter, the noise level above 0, up to 1, from
            which it makes a new picture of the estimate: the baseline that residual flows are measured against.
        keep_low: low frequencies come from the estimate.
        guard: blocks with invented colours, or without finite values, come from the estimate.
    """

    steps: int = 4
    strength: float = 1.0
    start_noise: float = 0.0
    generic_noise: float | None = None
    keep_low: bool = True
    guard: bool = True

    def __post_init__(self) -> None:
        require(1 <= self.steps <= MOST_STEPS, f"steps must be 1 to {MOST_STEPS}, whole")
        require(0 <= self.strength <= 1, "strength must be a number from 0 to 1")
        require(0 <= self.start_noise <= 1, "start_noise must be from 0 to 1")
        require(self.generic_noise is None or 0 < self.generic_noise <= 1, "generic_noise must be above 0, up to 1")
