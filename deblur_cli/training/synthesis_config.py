"""The ranges from which training pairs are drawn."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SynthesisConfig:
    """Ranges of the synthesis; lengths in pixels, probabilities in [0, 1].

    Attributes:
        min_length, max_length: blur length, drawn log-uniformly once per call, shared by a batch; see `hand_share`.
        shake_share: share of calls that use `blur_by_shake` or `blur_by_hand`; the rest uses `blur_by_motion`.
        unblurred_share: share of photos that stay as they are.
        object_share: share of moving scenes with an object of its own motion.
        grey_share: share of photos made grey first: scans and black-and-white files.
        encoded_share: share of photos averaged as they are instead of in linear light.
        highlight_share: share of photos whose clipped highlights are drawn beyond white first.
        noise_share, max_noise: share of noisy photos; largest standard deviation of the read noise, [0, 1] units.
        jpeg_share, min_jpeg_quality: share of compressed photos; their lowest quality, up to 98.
        hand_share: share of shaken calls that use `blur_by_hand`, where every photo has a length of its own.
        roll_share, depth_share: share of these in which the camera also turns, and in which a near part of the scene
            moves further or less far than the rest.
        sensor_share, max_sensor_noise: share of photos with the noise of a sensor; its largest standard deviation at
            mid grey in sRGB-encoded [0, 1] units, drawn log-uniformly.
        mosaic_share: share of these whose noise went through a demosaic; that of the rest is white.
        colour_smoothing_share: share of noisy photos whose colour the camera smoothed.
        halo_share, max_halo: share of photos that the camera sharpened; its largest amount.
        jpeg_twice_share: share of compressed photos that are compressed once more, on another grid.
        resize_share, min_resize: share of calls that are made smaller between the two; the smallest factor.
        unblurred_noise_share: share of unblurred photos that go through the camera as all others do. The rest stays
            as it is. Their sharp picture stays clean.
        real_camera_share: share of averaged frames and of real pairs whose blurred picture goes through the camera.
    """

    min_length: float = 2.0
    max_length: float = 44.0
    shake_share: float = 0.35
    unblurred_share: float = 0.06
    object_share: float = 0.5
    grey_share: float = 0.0
    encoded_share: float = 0.35
    highlight_share: float = 0.3
    noise_share: float = 0.5
    max_noise: float = 0.015
    jpeg_share: float = 0.4
    min_jpeg_quality: int = 60
    hand_share: float = 0.0
    roll_share: float = 0.0
    depth_share: float = 0.0
    sensor_share: float = 0.0
    max_sensor_noise: float = 0.1
    mosaic_share: float = 0.75
    colour_smoothing_share: float = 0.0
    halo_share: float = 0.0
    max_halo: float = 1.5
    jpeg_twice_share: float = 0.0
    resize_share: float = 0.0
    min_resize: float = 0.6
    unblurred_noise_share: float = 0.0
    real_camera_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_resize <= 1:
            raise ValueError(f"min_resize = {self.min_resize} must be above 0 and at most 1")

    @property
    def has_camera(self) -> bool:
        """Whether photos go through `camera.photograph`; recipes from before it keep their pictures to the bit."""
        shares = (self.sensor_share, self.halo_share, self.jpeg_twice_share, self.resize_share)
        return any(shares) or bool(self.unblurred_noise_share)
