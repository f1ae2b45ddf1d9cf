"""What a training is made of, read from a TOML file: network shape, data shares, schedule. Knows no tensors."""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from deblur_cli.errors import InputError
from deblur_cli.networks.experts import find_expert
from deblur_cli.networks.residual_codec import ResidualCodecConfig
from deblur_cli.networks.version_blend import BlendConfig
from deblur_cli.system.typed_tables import read_table
from deblur_cli.training.synthesis_config import SynthesisConfig

RECIPES = Path(__file__).parent / "recipes"
_OLD_NAMES = {"prior": "base"}


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where training patches come from.

    Attributes:
        photo_share, frame_share, pair_share: weights of synthesis from photos, averages of high-speed frames,
            and real pairs; sources that are not there are left out.
        reuse: how often a patch is drawn from the pool before it is replaced, each time cropped and turned anew.
        pool: patches in the pool.
        min_scale: photos are reduced by a random factor between this and 1.
        min_frames, max_frames: odd numbers of frames in an average.
        soft_share: share of photos, the least sharp ones, that are dropped.
        enlarge_photos: whether photos smaller than a patch and its border are enlarged; else they are left out.
        held_out_pairs, held_out_photos: kept for validation: the last pairs of each sequence, at most half of them;
            every n-th photo, none if 0.
    """

    photo_share: float = 0.6
    frame_share: float = 0.2
    pair_share: float = 0.2
    reuse: int = 5
    pool: int = 768
    min_scale: float = 0.5
    min_frames: int = 7
    max_frames: int = 17
    soft_share: float = 0.15
    enlarge_photos: bool = True
    held_out_pairs: int = 8
    held_out_photos: int = 20


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How long and how fast; the learning rate falls along a cosine over `minutes` after `warmup` of them.

    With `steps` above 0 these decide, not the clock, and the warm-up keeps its share: two trainings with the same steps
    can be compared whatever else the machine did.
    """

    minutes: float = 60.0
    warmup: float = 0.5
    batch: int = 12
    patch: int = 160
    optimizer: str = "muon"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    frequency_weight: float = 0.1
    ema_decay: float = 0.998
    clip_norm: float = 0.5
    validate_minutes: float = 2.0
    save_minutes: float = 4.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all recipes have: the start of the random numbers, the pictures, how long and how fast."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True, slots=True)
class ExpertRecipe(Recipe):
    """The whole recipe of `deblur train expert`.

    Attributes:
        architecture: a name in `networks.experts`, whose shape `network` is.
        checkpointing: compute activations again on the way back, which takes less memory and more time.
    """

    architecture: str = "dense_unet"
    network: dict[str, Any] = field(default_factory=dict)
    checkpointing: bool = False

    def __post_init__(self) -> None:
        read_table(find_expert(self.architecture).config, self.network, _check_number)


@dataclass(frozen=True, slots=True)
class BlendRecipe(Recipe):
    """The whole recipe of `deblur train blend`.

    Attributes:
        enough: PSNR in dB from which on a patch is as good as it needs to be. Untouched ones gain most, and where 50 is
            asked of them they decide what becomes of the blurred ones.
    """

    network: BlendConfig = field(default_factory=BlendConfig)
    enough: float = 50.0


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """What the codec is trained for.

    Attributes:
        estimate_share, grey_share: parts of the training whose source is the expert's estimate, or a flat grey
            picture; the rest starts from the blurred photo.
        max_noise: standard deviation of the noise on the difference of latents is drawn up to this.
        latent_weight: of the term that keeps the latents at zero mean and unit variance.
        anchor_weight: of the term that keeps them near those of a large base's autoencoder, where one is given.
        lpips_weight: of the perceptual distance (LPIPS, VGG16) of the decoded picture.
    """

    estimate_share: float = 0.6
    grey_share: float = 0.1
    max_noise: float = 0.2
    latent_weight: float = 0.05
    anchor_weight: float = 0.1
    lpips_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class LatentConfig:
    """Windows of pictures, estimates and latents that are made once.

    Attributes:
        windows: how many.
        side: in pixels, a multiple of 16; also the window in which the flow will look at photos.
        held_out: windows of held-out pictures for validation.
        plain_share: part of all windows that are estimated without the blend, where the expert has one.
        candidates: pairs that are drawn for each window; the one that lost most of its detail is kept, for it is the
            estimates that cost time. Every eighth window is the first that comes, so that sharp ones stay among them.
    """

    windows: int = 6000
    side: int = 256
    held_out: int = 48
    plain_share: float = 0.0
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.side % 16 or not self.side:
            raise ValueError(f"side = {self.side} must be a multiple of 16")
        if self.candidates < 1:
            raise ValueError(f"candidates = {self.candidates} must be at least 1")


@dataclass(frozen=True, slots=True)
class CodecRecipe(Recipe):
    """The whole recipe of `deblur train codec`."""

    network: ResidualCodecConfig = field(default_factory=ResidualCodecConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)


@dataclass(frozen=True, slots=True)
class BaseRecipe(Recipe):
    """The whole recipe of `deblur train base`; `network` is the table of a `FlowTransformerConfig`."""

    network: dict[str, Any] = field(default_factory=dict)
    latents: LatentConfig = field(default_factory=LatentConfig)


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How the base is adapted.

    Attributes:
        rank, targets: of the LoRA; see `LoraSettings`.
        adapt: "lora", or "all" for the ablation that trains every weight of the base.
        blurry_channels: whether the blurred photo's latents are shown as extra input channels.
        estimate_share: part of the training whose source is the expert's estimate instead of the blurred photo.
        start_noise: standard deviation of the noise at the start of the path, in units of the latents.
        base_dtype: number format of the frozen base: float32, or bfloat16 for large ones.
        checkpointing: compute activations again on the way back, for large bases.
        unrolled_steps: 0 learns the velocity alone. Above, the loss is that of the picture which so many steps of the
            sampler end at, with its gradient through all of them; for a short stage after the other.
        velocity_weight: of the velocity's loss beside the picture's, which keeps the field a field.
        lpips_weight: of the perceptual distance (LPIPS, VGG16) beside the fidelity of that picture.
        half_share: part of the training whose perceptual distance looks at half the size, where grain is gone.
        grain_weight: of fine detail that is added where the sharp photo is smooth.
        crop: pixels a side of what the perceptual distance looks at.
    """

    rank: int = 16
    targets: tuple[str, ...] = ("attention", "mlp")
    adapt: str = "lora"
    blurry_channels: bool = True
    estimate_share: float = 0.8
    start_noise: float = 0.1
    base_dtype: str = "float32"
    checkpointing: bool = False
    unrolled_steps: int = 0
    velocity_weight: float = 0.5
    lpips_weight: float = 0.0
    half_share: float = 0.0
    grain_weight: float = 0.0
    crop: int = 160


@dataclass(frozen=True, slots=True)
class FlowRecipe(Recipe):
    """The whole recipe of `deblur train flow`."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """How DeblurDiff is trained.

    Attributes:
        fresh: start the LKPN and the ControlNet anew, not from those of the base.
        latent_weight: of the squared error of the LKPN's latents, beside that of the predicted noise.
        pixel_weight: of the squared error of those latents decoded; 0 leaves the decoder out.
        frozen_dtype: number format of the frozen UNet: float32, or bfloat16 to save memory.
        checkpointing: compute activations again on the way back, for the real size.
        held_out: windows of held-out pictures for validation.
    """

    fresh: bool = False
    latent_weight: float = 1.0
    pixel_weight: float = 1.0
    frozen_dtype: str = "float32"
    checkpointing: bool = False
    held_out: int = 16


@dataclass(frozen=True, slots=True)
class DeblurDiffRecipe(Recipe):
    """The whole recipe of `deblur train deblurdiff`; the shape of the networks is that of the base."""

    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)


def read_recipe(name: str, kind: type[R], changes: Sequence[str] = ()) -> R:
    """A recipe by the name of a shipped one, or by the path of a TOML file.

    Args:
        changes: values that replace the recipe's, as TOML: `flow.start_noise=0.3`.
    Raises:
        InputError: no such recipe, no TOML, or a key that this kind of recipe does not have.
    """
    path, table = _read_toml(name)
    return _build(kind, _change(table, changes), path)


def read_common_recipe(name: str) -> Recipe:
    """What all recipes have of a recipe of any kind; see `read_recipe`."""
    path, table = _read_toml(name)
    common = {field.name for field in dataclasses.fields(Recipe)}
    return _build(Recipe, {key: value for key, value in table.items() if key in common}, path)


def _build(kind: type[R], table: dict[str, Any], path: Path) -> R:
    try:
        return read_table(kind, table, _check_number)
    except ValueError as fault:
        raise InputError(f"{path}: {fault}") from fault


def _read_toml(name: str) -> tuple[Path, dict[str, Any]]:
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{_OLD_NAMES.get(name, name)}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise InputError(f"{name}: no such recipe; give a .toml file or one of {known}")
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InputError(f"{path}: {fault}") from fault


def _change(table: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    for change in changes:
        try:
            parsed = tomllib.loads(change)
        except tomllib.TOMLDecodeError as fault:
            raise InputError(f"--set {change}: {fault}; as in flow.start_noise=0.3") from fault
        table = _merge(table, parsed)
    return table


def _merge(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for key, value in other.items():
        mine = merged.get(key)
        merged[key] = _merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _check_number(key: str, value: Any) -> None:
    """Nothing is negative, and shares go up to 1."""
    if key.endswith("_share") and not 0 <= value <= 1:
        raise ValueError(f"{key} = {value!r} must be from 0 to 1")
    if isinstance(value, int | float) and value < 0:
        raise ValueError(f"{key} = {value!r} must not be negative")
