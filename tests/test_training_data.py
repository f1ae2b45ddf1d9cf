"""A training folder: what is read, in which order, what is held out, and one clear line for what cannot be."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.errors import InputError
from deblur_cli.training.folder import TrainingData, read_training_data
from deblur_cli.training.recipe import DataConfig
from deblur_cli.training.sources import Generators
from deblur_cli.training.synthesis_config import SynthesisConfig
from deblur_cli.training.validation import build_validation

CONFIG = DataConfig(held_out_pairs=2, held_out_photos=4, max_frames=3, soft_share=0.0)


def put(folder: Path, *names: str, size: tuple[int, int] = (20, 16)) -> None:
    """Pictures of one grey level each: their place among the names."""
    for level, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (level, level, level)).save(folder / name)


def levels(pictures: list[np.ndarray]) -> list[int]:
    return [int(picture[0, 0, 0]) for picture in pictures]


def read(root: Path) -> TrainingData:
    return read_training_data(root, CONFIG)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    found = read(tmp_path)
    with pytest.raises(InputError, match="no training pictures"):
        found.sources(CONFIG, SynthesisConfig(), Generators.seeded(0, torch.device("cpu")))
    with pytest.raises(InputError, match="no pictures to validate on"):
        found.held_out()


def test_frames_and_pairs_follow_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = [f"frame_{number}.png" for number in range(1, 13)]
    put(tmp_path / "frames/a", *names)
    for kind in ("blur", "sharp"):
        put(tmp_path / "pairs/s" / kind, *names)
    found = read(tmp_path)
    assert levels(found.sequences[0]) == list(range(12))
    assert levels([sharp for _, sharp in found.pairs]) == list(range(10))
    assert levels([sharp for _, sharp in found.held_out_pairs]) == [10, 11]  # the last ones, never the first


def test_at_most_half_of_a_short_sequence_of_pairs_is_held_out(tmp_path: Path) -> None:
    for kind in ("blur", "sharp"):
        put(tmp_path / "pairs/s" / kind, "1.png", "2.png", "3.png")
    found = read(tmp_path)
    assert (len(found.pairs), len(found.held_out_pairs)) == (2, 1)


def test_every_nth_photo_is_held_out(tmp_path: Path) -> None:
    put(tmp_path / "photos", *(f"{number}.png" for number in range(5)))
    found = read(tmp_path)
    assert (levels(found.photos), levels(found.held_out_photos)) == ([1, 2, 3], [0, 4])
    assert levels(found.held_out().photos) == [0, 4]


def test_no_photo_is_held_out_where_the_recipe_wants_none(tmp_path: Path) -> None:
    put(tmp_path / "photos", "a.png", "b.png")
    found = read_training_data(tmp_path, dataclasses.replace(CONFIG, held_out_photos=0))
    assert (len(found.photos), found.held_out_photos) == (2, [])


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    put(tmp_path / "photos", "a.png", ".thumbnails/a.png")
    (tmp_path / "photos/._a.png").write_bytes(b"resource fork")
    assert len(read(tmp_path).held_out_photos) == 1


def test_a_pair_may_have_two_formats(tmp_path: Path) -> None:
    put(tmp_path / "pairs/s/blur", "1.webp")
    put(tmp_path / "pairs/s/sharp", "1.png")
    assert len(read(tmp_path).pairs) == 1
    put(tmp_path / "pairs/s/sharp", "2.png", "1.webp")  # the very name comes first
    assert levels([sharp for _, sharp in read(tmp_path).pairs]) == [1]


def test_pictures_are_upright_and_of_8_bit_however_they_are_stored(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (20, 16), (90, 90, 90)).save(tmp_path / "photos/b.jpg", exif=turned)
    Image.fromarray(np.full((16, 20), 257 * 90, np.uint16)).save(tmp_path / "photos/c.tif")
    data = read(tmp_path)
    pictures = data.held_out_photos + data.photos
    assert [picture.shape for picture in pictures] == [(16, 20, 3), (20, 16, 3), (16, 20, 3)]
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert levels(pictures) == [0, 90, 90]


def test_what_cannot_be_read_or_paired_is_one_line_with_its_file(tmp_path: Path) -> None:
    def refuse(root: Path, message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)):
            read(root)

    (tmp_path / "broken/photos").mkdir(parents=True)
    (tmp_path / "broken/photos/a.jpg").write_bytes(b"no picture")
    refuse(tmp_path / "broken", "photos/a.jpg: not a photo this tool can read")
    put(tmp_path / "lonely/pairs/s/blur", "1.png")
    refuse(tmp_path / "lonely", "blur/1.png: has no sharp pictures")
    put(tmp_path / "two/pairs/s/blur", "1.jpg")
    put(tmp_path / "two/pairs/s/sharp", "1.png", "1.webp")
    refuse(tmp_path / "two", "blur/1.jpg: has 2 sharp pictures")
    put(tmp_path / "sizes/pairs/s/blur", "1.png")
    put(tmp_path / "sizes/pairs/s/sharp", "1.png", size=(21, 16))
    refuse(tmp_path / "sizes", "sharp/1.png: is 21x16, but")
    put(tmp_path / "frames/frames/a", "1.png")
    put(tmp_path / "frames/frames/a", "2.jpg", size=(10, 16))
    refuse(tmp_path / "frames", "2.jpg: is 10x16, but")


def test_real_pairs_of_any_size_are_cut_to_the_grid_of_every_network(tmp_path: Path) -> None:
    for kind in ("blur", "sharp"):
        put(tmp_path / "pairs/a" / kind, "1.png", "2.png", size=(640, 360))
        put(tmp_path / "pairs/b" / kind, "1.png", "2.png", size=(60, 60))  # too small to look at
    ((blurry, sharp),) = build_validation(read(tmp_path), SynthesisConfig())["real"]
    assert blurry.shape == sharp.shape == (1, 3, 320, 512)


def camera_of(share: float) -> SynthesisConfig:
    return SynthesisConfig(sensor_share=1.0, real_camera_share=share, resize_share=0.5)


@pytest.mark.parametrize("part", ["frames", "pairs"])
def test_averaged_frames_and_real_pairs_get_the_noise_of_a_camera_by_their_share(tmp_path: Path, part: str) -> None:
    for folder in ("frames/a", "pairs/a/blur", "pairs/a/sharp"):
        put(tmp_path / folder, *(f"{number}.png" for number in range(9)), size=(96, 96))
    shares = {"frame_share": float(part == "frames"), "pair_share": float(part == "pairs")}
    config = dataclasses.replace(CONFIG, min_frames=3, **shares)

    def draw(share: float) -> tuple[torch.Tensor, ...]:
        ((_, source),) = read(tmp_path).sources(config, camera_of(share), Generators.seeded(1, torch.device("cpu")))
        return source.draw(8, 48)

    blurry, sharp = draw(1.0)
    assert blurry.shape == sharp.shape == (8, 3, 48, 48)
    assert blurry.std((1, 2, 3)).min() > 1e-4
    assert sharp.std((1, 2, 3)).max() < 1e-6
    assert draw(0.0)[0].std((1, 2, 3)).max() < 1e-6
    noisy = draw(0.5)[0].std((1, 2, 3)) > 1e-4
    assert noisy.any()
    assert not noisy.all()


def test_photos_too_small_for_a_patch_are_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 60), "black").save(tmp_path / "photos/small.png")
    Image.new("RGB", (200, 200), "white").save(tmp_path / "photos/large.png")
    plain = SynthesisConfig(max_length=4.0, noise_share=0.0, jpeg_share=0.0, shake_share=1.0)
    for enlarged, levels_seen in ((False, {1}), (True, {0, 1})):
        config = dataclasses.replace(CONFIG, held_out_photos=0, min_scale=1.0, enlarge_photos=enlarged)
        found = read_training_data(tmp_path, config)
        ((_, source),) = found.sources(config, plain, Generators.seeded(0, torch.device("cpu")))
        assert {round(float(sharp.mean())) for sharp in source.draw(16, 100)[1]} == levels_seen
