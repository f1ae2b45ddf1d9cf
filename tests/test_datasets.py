"""Every layout by its folders; pairs by name; one clear line when something is missing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.benchmark.datasets import PairSearch, check_sizes, find_dataset, find_datasets
from deblur_cli.errors import InputError
from deblur_cli.system.files import natural_key


def put(root: Path, *names: str, size: tuple[int, int] = (20, 16)) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), dtype=np.uint8)).save(root / name)


def names(dataset) -> list[tuple[str, list[str]]]:
    return [
        (pair.image, [truth.relative_to(dataset.root).as_posix() for truth in pair.truths]) for pair in dataset.pairs
    ]


@pytest.fixture
def gopro(tmp_path):
    root = tmp_path / "GOPRO"
    for sequence in ("GOPR0384_11_00", "GOPR0385_11_01"):
        for kind in ("blur", "blur_gamma", "sharp"):
            put(root / "test" / sequence / kind, "000009.png", "000010.png")
    put(root / "train" / "GOPR0372_07_00" / "blur", "000001.png")
    return root


def test_gopro_takes_the_linear_blur_of_the_test_split(gopro):
    dataset = find_dataset(gopro, PairSearch())
    assert (dataset.layout, dataset.name, len(dataset.pairs)) == ("gopro", "GOPRO", 4)
    assert names(dataset)[0] == ("GOPR0384_11_00/blur/000009.png", ["GOPR0384_11_00/sharp/000009.png"])
    assert names(find_dataset(gopro / "test", PairSearch())) == names(dataset)
    assert find_dataset(gopro / "test", PairSearch()).name == "GOPRO"


def test_gopro_with_gamma_takes_the_other_folder(gopro):
    dataset = find_dataset(gopro, PairSearch(gamma=True))
    assert {Path(pair.image).parent.name for pair in dataset.pairs} == {"blur_gamma"}


def test_hide_pairs_the_test_photos_with_the_common_truths(tmp_path):
    put(tmp_path, "test/test-close-ups/1fromGOPR1.png", "test/test-long-shot/2.png", "train/3.png")
    put(tmp_path, "GT/1fromGOPR1.png", "GT/2.png", "GT/3.png")
    dataset = find_dataset(tmp_path, PairSearch())
    assert dataset.layout == "hide"
    assert names(dataset) == [
        ("test/test-close-ups/1fromGOPR1.png", ["GT/1fromGOPR1.png"]),
        ("test/test-long-shot/2.png", ["GT/2.png"]),
    ]


@pytest.fixture
def realblur(tmp_path):
    scenes = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
    lines = []
    for scene, number in (("scene004", 10), ("scene004", 2), ("scene244", 1)):
        put(tmp_path / scenes / scene, f"gt/gt_{number}.png", f"blur/blur_{number}.png")
        lines.append(f"{scenes}/{scene}/gt/gt_{number}.png {scenes}/{scene}/blur/blur_{number}.png ")
    put(tmp_path / scenes / "scene244_reflect", "gt/gt_1.png")
    (tmp_path / "RealBlur_J_test_list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_realblur_follows_its_list_in_natural_order_with_the_mirrored_truth(realblur):
    dataset = find_dataset(realblur, PairSearch())
    assert (dataset.layout, dataset.protocol) == ("realblur-j", "realblur")
    assert [Path(pair.image).name for pair in dataset.pairs] == ["blur_2.png", "blur_10.png", "blur_1.png"]
    assert [pair.truths[0].parts[-3] for pair in dataset.pairs] == ["scene004", "scene004", "scene244_reflect"]
    assert names(find_dataset(realblur / "RealBlur_J_test_list.txt", PairSearch())) == names(dataset)


def test_realblur_with_both_lists_asks_which(realblur):
    (realblur / "RealBlur_R_test_list.txt").write_text("")
    with pytest.raises(InputError, match="name one"):
        find_dataset(realblur, PairSearch())


def test_realblur_with_a_photo_missing_is_refused_or_left_out(realblur):
    next(realblur.rglob("blur_10.png")).unlink()
    with pytest.raises(InputError, match="1 without blurry photo"):
        find_dataset(realblur, PairSearch())
    assert len(find_dataset(realblur, PairSearch(allow_missing=True)).pairs) == 2


def test_koehler_gives_every_frame_of_the_trajectory_but_the_broken_one(tmp_path):
    put(tmp_path, "Blurry1_3.png", "Blurry1_12.png")
    put(tmp_path / "Image1" / "Kernel3", *(f"GroundTruth1_3_{number}.png" for number in (1, 29, 30, 31)))
    put(tmp_path / "Image1" / "Kernel12", "GroundTruth1_12_1.png")
    dataset = find_dataset(tmp_path, PairSearch())
    assert (dataset.layout, dataset.protocol) == ("koehler", "koehler")
    assert [truth.stem for truth in dataset.pairs[0].truths] == [f"GroundTruth1_3_{number}" for number in (1, 29, 31)]
    assert len(dataset.pairs[1].truths) == 1


@pytest.mark.parametrize(("blurry", "sharp"), [("blurry", "sharp"), ("blur", "gt"), ("input", "target")])
def test_two_folders_pair_by_name_whatever_the_suffix(tmp_path, blurry, sharp):
    put(tmp_path / blurry, "b10.png", "b9.jpg", "sub/a.png")
    put(tmp_path / sharp, "b9.png", "b10.webp", "sub/a.png")
    dataset = find_dataset(tmp_path, PairSearch())
    assert dataset.layout == "pairs"
    assert names(dataset) == [
        (f"{blurry}/b9.jpg", [f"{sharp}/b9.png"]),
        (f"{blurry}/b10.png", [f"{sharp}/b10.webp"]),
        (f"{blurry}/sub/a.png", [f"{sharp}/sub/a.png"]),
    ]


def test_one_missing_and_one_extra_file_are_not_paired_by_position(tmp_path):
    put(tmp_path / "blur", "a.png", "b.png")
    put(tmp_path / "sharp", "a.png", "c.png")
    with pytest.raises(InputError, match=r"1 without truth \(b\); 1 without blurry photo \(c\).*--allow-missing"):
        find_dataset(tmp_path, PairSearch())
    dataset = find_dataset(tmp_path, PairSearch(allow_missing=True))
    assert names(dataset) == [("blur/a.png", ["sharp/a.png"])]
    assert len(dataset.remarks) == 2


def test_no_name_in_common_is_an_error_even_when_missing_is_allowed(tmp_path):
    put(tmp_path / "blur", "a.png")
    put(tmp_path / "sharp", "b.png")
    with pytest.raises(InputError, match="no blurry photo has a truth"):
        find_dataset(tmp_path, PairSearch(allow_missing=True))


def test_two_files_of_one_name_are_not_guessed_apart(tmp_path):
    put(tmp_path / "blur", "a.png", "a.jpg")
    put(tmp_path / "sharp", "a.png")
    with pytest.raises(InputError, match="have one name"):
        find_dataset(tmp_path, PairSearch())


def test_photos_alone_have_no_truth_and_self_makes_each_its_own(tmp_path):
    put(tmp_path, "b.png", "a.png", ".hidden.png")
    (tmp_path / "readme.txt").write_text("x")
    assert names(find_dataset(tmp_path, PairSearch())) == [("a.png", []), ("b.png", [])]
    dataset = find_dataset(tmp_path, PairSearch(self_truth=True))
    assert (dataset.layout, names(dataset)[0]) == ("self", ("a.png", ["a.png"]))


def test_a_folder_of_data_sets_names_those_inside(tmp_path):
    for name in ("first", "second"):
        put(tmp_path / name / "blur", "a.png")
        put(tmp_path / name / "sharp", "a.png")
    with pytest.raises(InputError, match=r"several data sets.*first.*second"):
        find_dataset(tmp_path, PairSearch())


def test_an_empty_folder_is_no_data_set(tmp_path):
    with pytest.raises(InputError, match="not a data set"):
        find_dataset(tmp_path, PairSearch())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GoPro", r"seungjunnah.*CC BY 4.0.*SEQUENCE"),
        ("RealBlur", r"rimchang/RealBlur.*CC BY 4.0.*test_list"),
        ("Kohler", r"tuebingen.*Blurry1_1"),
        ("elsewhere", r"blur/ beside sharp/"),
    ],
)
def test_a_missing_data_set_says_where_it_is_to_be_had(tmp_path, name, expected):
    with pytest.raises(InputError, match=expected):
        find_dataset(tmp_path / name, PairSearch())


def test_sizes_that_differ_are_one_line_before_the_work(tmp_path):
    put(tmp_path / "blur", "a.png", "b.png")
    put(tmp_path / "sharp", "a.png")
    put(tmp_path / "sharp", "b.png", size=(21, 16))
    with pytest.raises(InputError, match=r"b\.png is 20x16 but its truth .*b\.png is 21x16"):
        check_sizes(find_dataset(tmp_path, PairSearch()))


def test_several_data_sets_get_different_names_and_the_limit_holds_for_each(tmp_path):
    for name in ("one/x", "two/x"):
        put(tmp_path / name, "a.png", "b.png", "c.png")
    datasets = find_datasets([tmp_path / "one/x", tmp_path / "two/x"], PairSearch(), limit=2)
    assert [(dataset.name, len(dataset.pairs)) for dataset in datasets] == [("x", 2), ("x-2", 2)]


def test_natural_order_counts():
    assert sorted(["blur_10", "blur_2", "blur_1", "a"], key=natural_key) == ["a", "blur_1", "blur_2", "blur_10"]
