"""Motion blur made from sharp photos, batched on one device: pure functions of tensors and a generator.

Three manners of blur: `blur_by_shake` convolves with the path of a shaken hand, `blur_by_hand` follows more varied
paths that may turn and see depth, `blur_by_motion` averages the frames of a moving scene. All work in linear light or
on the encoded values, as cameras and data sets do. Knows no files.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import convolve
from deblur_cli.training.camera import Shot, photograph
from deblur_cli.training.dice import Dice
from deblur_cli.training.hand_paths import REACH, average_along, draw_hand_path, draw_roll, splat, to_kernels
from deblur_cli.training.jpeg_noise import compress_as_jpeg
from deblur_cli.training.synthesis_config import SynthesisConfig


def synthesise(
    sharp: Tensor, generator: torch.Generator, config: SynthesisConfig, side: int | None = None
) -> tuple[Tensor, Tensor]:
    """Blurred and sharp patches out of sharp ones.

    Args:
        sharp: (B, 3, H, W), [0, 1], sRGB-encoded. A border of `margin(config)` pixels feeds the motion.
        generator: on the device of `sharp`.
        side: the camera makes patches smaller to this, see `SynthesisConfig.resize_share`; None leaves their size.
    Returns:
        blurry, sharp: both (B, 3, H - 2m, W - 2m) with m = `margin(config)`, or (B, 3, side, side); [0, 1].
    """
    dice = Dice(generator)
    count = sharp.shape[0]
    length = math.exp(dice.number(math.log(config.min_length), math.log(config.max_length)))
    gamma = dice.uniform(count, 1, 1, 1, low=1.8, high=2.4)
    exponent = torch.where(dice.chance(count, config.encoded_share) > 0, torch.ones_like(gamma), gamma)
    sharp = torch.where(dice.chance(count, config.grey_share) > 0, sharp.mean(1, keepdim=True), sharp)
    light = _raise_highlights(sharp.clamp(0, 1) ** exponent, dice, config.highlight_share)
    if dice.number(0, 1) < config.shake_share:
        target, mixed = light, _shake(light, length, dice, config)
    else:
        target, mixed = blur_by_motion(light, length, dice, config.object_share)
    still = dice.chance(count, config.unblurred_share)
    mixed = still * target + (1 - still) * mixed
    mixed = _add_noise(mixed.clamp(0, 1), dice, config, still)
    blurry, clean = mixed.clamp(0, 1) ** (1 / exponent), target.clamp(0, 1) ** (1 / exponent)
    border = margin(config)
    blurry, clean = (image[..., border:-border, border:-border] for image in (blurry, clean))
    if config.has_camera:
        return photograph(blurry, clean, dice, config, Shot(still, side))
    return _compress(blurry, dice, config, still), clean.contiguous()


def margin(config: SynthesisConfig) -> int:
    """Pixels that `synthesise` cuts from every side."""
    return math.ceil(config.max_length * REACH)


def blur_by_shake(light: Tensor, length: float, dice: Dice) -> Tensor:
    """Convolve with random hand-shake paths; in half of the photos a soft region follows a second path.

    Args:
        light: (B, 3, H, W).
        length: extent of the paths in pixels.
    """
    count, _, height, width = light.shape
    kernels = draw_shake_kernels(2 * count, length, dice)
    first, second = (convolve(light, part) for part in kernels.chunk(2))
    region = dice.chance(count, 0.5) * draw_blobs(count, height, width, softness=0.25, dice=dice)
    return first + region * (second - first)


def blur_by_hand(light: Tensor, dice: Dice, config: SynthesisConfig) -> Tensor:
    """Blur by the varied paths of `hand_paths`, each of its own length; by chance with roll and a near layer.

    Args:
        light: (B, 3, H, W).
    """
    count, _, height, width = light.shape
    lengths = dice.log_uniform(count, low=config.min_length, high=config.max_length)
    with_roll, with_depth = (dice.number(0, 1) < share for share in (config.roll_share, config.depth_share))
    if not with_roll and not with_depth:
        path = draw_hand_path(lengths, dice)
        return convolve(light, to_kernels(path, 2 * math.ceil(config.max_length * REACH) + 3))
    path = draw_hand_path(lengths, dice, points=min(max(12, math.ceil(float(lengths.max()) * 1.3)), 72))
    if with_roll:
        path = draw_roll(path, lengths, (height, width), dice)
    if not with_depth:
        return average_along(light, path)
    near = draw_blobs(count, height, width, softness=dice.number(0.02, 0.3), dice=dice)
    return average_along(light, path, near, dice.log_uniform(count, low=0.3, high=1.7))


def blur_by_motion(light: Tensor, length: float, dice: Dice, object_share: float) -> tuple[Tensor, Tensor]:
    """Average the frames of a scene that shifts, turns and zooms, with an object that moves by itself.

    Args:
        light: (B, 3, H, W).
        length: the longest way of a pixel between the first and the last frame.
    Returns:
        The frame in the middle, and the average of all: both (B, 3, H, W).
    """
    count, _, height, width = light.shape
    half = max(3, math.ceil(length * dice.number(0.2, 0.45)))
    background = _draw_motion(count, length, dice)
    foreground = _draw_motion(count, length, dice)
    with_object = dice.chance(count, object_share)
    mask = with_object * draw_blobs(count, height, width, softness=0.015, dice=dice)
    layer = torch.cat((light.roll(1, 0), mask), 1)  # another photo of the batch plays the object

    def render(time: float) -> Tensor:
        scene = _warp(light, background, time)
        moved = _warp(layer, foreground, time)
        return torch.lerp(scene, moved[:, :3], moved[:, 3:])

    middle = render(0.0)
    total = middle.clone()
    for index in range(1, half + 1):
        time = 0.5 * index / half
        total += render(time) + render(-time)
    return middle, total / (2 * half + 1)


def draw_shake_kernels(count: int, length: float, dice: Dice, points: int = 96) -> Tensor:
    """Paths of a shaken hand as kernels, (count, K, K), each summing to 1, its centroid in the centre.

    The velocity is a random walk with inertia and rare jerks, after Boracchi and Foi 2012, "Modeling the
    Performance of Image Restoration from Motion Blur".
    """
    knots = dice.normal(count, 2, 8)
    smooth = functional.interpolate(knots, size=points, mode="linear", align_corners=True)
    drift = dice.normal(count, 2, 1) * dice.uniform(count, 1, 1, low=0.0, high=2.5)
    jerk = dice.normal(count, 2, points) * dice.uniform(count, 1, 1, low=0.0, high=0.8)
    path = (smooth + drift + jerk).cumsum(-1)
    path = path - path.mean(-1, keepdim=True)
    reach = (path.amax(-1) - path.amin(-1)).norm(dim=1)  # diagonal of the bounding box
    path = path * (length / reach.clamp_min(1e-6))[:, None, None]
    return splat(path, 2 * math.ceil(length * 0.75) + 3)


def draw_blobs(count: int, height: int, width: int, *, softness: float, dice: Dice) -> Tensor:
    """Random regions, (count, 1, height, width) in [0, 1], about 30 % inside; softness 0 is a hard edge."""
    coarse = dice.normal(count, 1, 4, 4)
    field = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    level = field.flatten(1).quantile(0.7, dim=1)[:, None, None, None]
    return ((field - level) / max(softness, 1e-3) + 0.5).clamp(0, 1)


def _shake(light: Tensor, length: float, dice: Dice, config: SynthesisConfig) -> Tensor:
    by_hand = config.hand_share > 0 and dice.number(0, 1) < config.hand_share
    return blur_by_hand(light, dice, config) if by_hand else blur_by_shake(light, length, dice)


def _draw_motion(count: int, length: float, dice: Dice) -> Tensor:
    """(count, 6): shift x, y, turn, zoom, bend x, y; in pixels at the patch border over the whole exposure."""
    scale = length * dice.uniform(count, 1, low=0.3, high=1.0)
    angle = dice.uniform(count, 1, low=0.0, high=2 * math.pi)
    shift = torch.cat((angle.cos(), angle.sin()), 1) * scale
    turn, zoom = ((dice.uniform(count, 1, low=-1, high=1) ** 3) * scale * 0.8 for _ in range(2))
    bend = dice.normal(count, 2) * 0.2 * scale
    return torch.cat((shift, turn, zoom, bend), 1)


def _warp(image: Tensor, motion: Tensor, time: float) -> Tensor:
    """`image` as seen at `time` in [-0.5, 0.5]; at 0 it is returned unchanged."""
    if time == 0.0:
        return image
    height, width = image.shape[-2:]
    shift_x, shift_y, turn, zoom, bend_x, bend_y = motion.unbind(1)
    radius = min(height, width) / 2
    angle, scale = turn * time / radius, 1 + zoom * time / radius
    cos, sin = scale * angle.cos(), scale * angle.sin()
    move_x = (shift_x * time + bend_x * time**2) * 2 / width
    move_y = (shift_y * time + bend_y * time**2) * 2 / height
    rows = torch.stack((cos, -sin * height / width, move_x, sin * width / height, cos, move_y), 1)
    grid = functional.affine_grid(rows.view(-1, 2, 3), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def _raise_highlights(light: Tensor, dice: Dice, share: float) -> Tensor:
    count = light.shape[0]
    gain = dice.chance(count, share) * dice.uniform(count, 1, 1, 1, low=0.5, high=5.0)
    clipped = ((light.amax(1, keepdim=True) - 0.92) / 0.08).clamp(0, 1)
    return light * (1 + gain * clipped)


def _add_noise(light: Tensor, dice: Dice, config: SynthesisConfig, still: Tensor) -> Tensor:
    """Shot and read noise, mostly mild; unblurred photos stay clean so that they come back unharmed."""
    count = light.shape[0]
    noisy = dice.chance(count, config.noise_share) * (1 - still)
    read = config.max_noise * dice.uniform(count, 1, 1, 1) ** 2
    shot = 0.5 * read
    deviation = (read**2 + shot**2 * light.clamp_min(0)).sqrt()
    return light + noisy * deviation * dice.normal(*light.shape)


def _compress(blurry: Tensor, dice: Dice, config: SynthesisConfig, still: Tensor) -> Tensor:
    count = blurry.shape[0]
    quality = dice.uniform(count, low=config.min_jpeg_quality, high=98)
    chosen = dice.chance(count, config.jpeg_share) * (1 - still)
    return torch.where(chosen > 0, compress_as_jpeg(blurry, quality), blurry)
