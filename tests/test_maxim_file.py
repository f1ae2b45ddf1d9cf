"""MAXIM's published files: imported, converted and run; and every other file refused before it can do harm."""

import io
import json
import tracemalloc
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image
from safetensors.numpy import save_file
from support.maxim_factory import BUNDLED, published_arrays, write_archive

from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.checkpoint import save_network
from deblur_cli.conversion import maxim_file
from deblur_cli.conversion.maxim_file import convert_maxim_once, read_published
from deblur_cli.errors import WeightsError
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.files import hash_file
from deblur_cli.weights import find_model
from deblur_cli.weights.manifest import find_files
from deblur_cli.weights.store import imported_path

PAGE = "https://console.cloud.google.com/storage/browser/gresearch/maxim/ckpt/Deblurring/"
SHAPES = {"a/kernel": (3, 3, 2, 4), "a/bias": (4,), "b/scale": (2,)}


pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module")
def arrays():
    return published_arrays()


@pytest.fixture(scope="module")
def archive(arrays, tmp_path_factory):
    """As a browser may have named it."""
    return write_archive(tmp_path_factory.mktemp("downloads") / "checkpoint (1).npz", arrays)


@pytest.mark.parametrize("name", ["gopro", "reds", "realblur-j", "realblur-r"])
def test_the_authors_four_checkpoints_are_known_and_fetched_by_hand(name):
    entry = find_model(f"maxim-{name}")
    file = entry.files["expert"]
    assert (entry.backend, entry.network, entry.config, entry.listed) == ("expert", "maxim", {"stages": 3}, False)
    assert file.page.startswith(PAGE)
    assert file.page.removeprefix(PAGE).lower().replace("_", "-") == name
    assert (file.name, file.licence, file.sha256) == ("checkpoint.npz", "Apache-2.0", None)
    assert len(entry.scores) == 1


def test_the_authors_archive_is_imported_once_and_runs_as_the_bundled_weights_do(archive, command):
    status, out, err = command("weights", "import", "maxim-realblur-j", archive)
    kept, sha256 = imported_path(find_files("maxim-realblur-j")[0]), hash_file(archive)
    converted = kept.parent / "converted" / f"{sha256[:32]}.safetensors"
    assert (status, out) == (0, [str(kept)])
    assert err == [
        f"deblur: maxim-realblur-j: nobody has published its sha256; pinned to {sha256}",
        f"deblur: maxim-realblur-j: converted to {converted}, sha256 {hash_file(converted)}",
    ]
    assert hash_file(kept) == sha256
    assert find_model("maxim-realblur-j").hashes == {"expert": sha256}
    assert converted.read_bytes() == BUNDLED.read_bytes()  # the same arrays, so the same file to the byte
    assert converted.with_suffix(".sha256").read_text() == f"{hash_file(BUNDLED)}  {converted.name}\n"

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)).save("a.png")
    assert command("run", "a.png", "-o", "out", "--model", "maxim-realblur-j", "--device", "cpu", "--quiet")[0] == 0
    assert not np.array_equal(np.asarray(Image.open("out/a.png")), np.asarray(Image.open("a.png")))
    row = next(line for line in command("weights", "list", "--all")[1] if line.startswith("maxim-realblur-j\t"))
    assert row.split()[1] == "imported"


def test_a_safetensors_file_with_the_published_names_gives_the_bundled_file(arrays, command):
    save_file(arrays, "flax.safetensors")
    assert command("weights", "import", "maxim-gopro", "flax.safetensors")[0] == 0
    kept = imported_path(find_files("maxim-gopro")[0])
    (converted,) = (kept.parent / "converted").glob("*.safetensors")
    assert hash_file(converted) == find_model("best").files["expert"].sha256


def test_what_has_changed_since_is_not_used_and_a_damaged_conversion_is_made_again(archive, arrays, command, tmp_path):
    command("weights", "import", "maxim-reds", archive)
    kept = imported_path(find_files("maxim-reds")[0])
    (converted,) = (kept.parent / "converted").glob("*.safetensors")
    whole = converted.read_bytes()
    converted.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert load_model("maxim-reds", device="cpu").module.config.stages == 3
    assert converted.read_bytes() == whole

    other = {**arrays, "stage_0_input_conv_0/bias": arrays["stage_0_input_conv_0/bias"] + 1}
    assert command("weights", "import", "maxim-reds", write_archive(tmp_path / "other.npz", other))[0] == 0
    (left,) = (kept.parent / "converted").glob("*.safetensors")
    assert left != converted
    kept.write_bytes(archive.read_bytes())
    with pytest.raises(WeightsError, match=r"expected .*then deblur weights import maxim-reds FILE"):
        load_model("maxim-reds", device="cpu")


def test_without_an_import_the_line_says_where_to_fetch_it(command):
    Image.new("RGB", (64, 64)).save("a.png")
    status, _, err = command("run", "a.png", "-o", "out", "--model", "maxim-realblur-r")
    assert (status, len(err)) == (1, 1)
    assert f"fetch {PAGE}RealBlur_R, then deblur weights import maxim-realblur-r FILE" in err[0]


def test_a_conversion_that_the_disk_cannot_take_is_one_line_and_leaves_nothing(archive, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    source = Path("checkpoint.npz")
    source.symlink_to(archive)
    with pytest.raises(WeightsError, match="disk full"):
        convert_maxim_once(source)
    assert not list(Path("converted").iterdir())


# From here on the network is tiny: what is refused is told by the names and shapes that it has.


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(maxim_file, "published_shapes", lambda: SHAPES)
    return {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}


def read(content):
    path = Path("file.npz")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_archive(path, content)
    return read_published(path)


def header(shape, descr="<f4", version=(1, 0)):
    stream = io.BytesIO()
    told = {"shape": shape, "fortran_order": False, "descr": descr}
    (npy.write_array_header_1_0 if version == (1, 0) else npy.write_array_header_2_0)(stream, told)
    return stream.getvalue()


def pack(arrays, name="a/bias", content=None, method=zipfile.ZIP_STORED, comment=b"", twice=False):
    """An archive in which one array is any bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, array in arrays.items():
            own = io.BytesIO()
            np.save(own, array)
            archive.writestr(
                f"opt/target/{key}.npy", content if key == name and content is not None else own.getvalue()
            )
        if twice:
            archive.writestr(f"opt/target/{name}", own.getvalue())
        archive.comment = comment
    return stream.getvalue()


def test_a_sound_archive_is_read_packed_or_not_and_whatever_the_order_of_its_numbers(tiny):
    tiny["a/kernel"] = np.asfortranarray(np.arange(72, dtype=np.float16).reshape(3, 3, 2, 4))
    for content in (tiny, pack(tiny), pack(tiny, method=zipfile.ZIP_DEFLATED)):
        found = read(content)
        assert found.keys() == SHAPES.keys()
        for name, array in tiny.items():
            assert torch.equal(found[name], torch.from_numpy(np.ascontiguousarray(array)))


BAD_ARRAYS = [
    ({"a/kernel": None}, "a/kernel is missing"),
    ({"a/kernel": None, "a/bias": None}, "a/bias and 1 more are missing"),
    ({"c/bias": np.zeros(3)}, "c/bias does not belong there"),
    ({"a/bias": np.zeros(5, np.float32)}, "a/bias has the shape (5,), not (4,)"),
    ({"a/bias": np.zeros((4, 1), np.float32)}, "a/bias has the shape (4, 1), not (4,)"),
    ({"a/bias": np.zeros(4)}, "a/bias has numbers of the type float64, not float32 or float16"),
    ({"a/bias": np.zeros(4, np.int32)}, "a/bias has numbers of the type int32"),
    ({"a/bias": np.zeros(4, ">f4")}, "a/bias has numbers of the type >f4"),
    ({"a/bias": np.array([{}, 1, 2, 3], dtype=object)}, "a/bias holds Python objects, which could run code"),
    ({"a/bias": np.array([1, np.nan, 1, 1], np.float32)}, "a/bias holds numbers that are not finite"),
    ({"a/bias": np.array([1, np.inf, 1, 1], np.float16)}, "a/bias holds numbers that are not finite"),
]


@pytest.mark.parametrize(("changes", "text"), BAD_ARRAYS, ids=[row[1][:40] for row in BAD_ARRAYS])
def test_arrays_that_are_not_the_networks_are_named(tiny, changes, text):
    with pytest.raises(WeightsError) as caught:
        read({name: array for name, array in {**tiny, **changes}.items() if array is not None})
    assert str(caught.value).startswith(f"file.npz: not a checkpoint of MAXIM: {text}")
    assert "\n" not in str(caught.value)


SMALL = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}
BAD_FILES = {
    "a page of a server": (b"<html>Sign in</html>" * 9, "it is neither an archive of numpy nor a safetensors file"),
    "nothing": (b"", "it is neither an archive"),
    "cut off": (pack(SMALL)[:-30], "it is neither an archive"),
    "no numpy": (pack(SMALL, content=b"some text"), "magic string is not correct"),
    "empty array": (pack(SMALL, content=header((4,))), "a/bias has not the 16 bytes that its header promises"),
    "more bytes": (pack(SMALL, content=header((4,)) + bytes(20)), "a/bias has not the 16 bytes"),
    "an enormous shape": (pack(SMALL, content=header((10**15,))), "a/bias has the shape (1000000000000000,), not (4,)"),
    "a newer header": (
        pack(SMALL, content=header((4,), version=(2, 0)) + bytes(16)),
        "has a header that numpy does not",
    ),
    "a header that is code": (pack(SMALL, content=b"\x93NUMPY\1\0\x0f\0__import__('x')"), "malformed node or string"),
    "a header that ends early": (pack(SMALL, content=b"\x93NUMPY\1\0\x09\0{'shape':"), "EOF in multi-line statement"),
    "a header that is deep": (pack(SMALL, content=b"\x93NUMPY\1\0\x10\x27" + b"(" * 10_000), "a checkpoint of MAXIM"),
    "packed otherwise": (pack(SMALL, method=zipfile.ZIP_LZMA), "a/kernel is packed in a way that numpy does not"),
    "two of a name": (pack(SMALL, twice=True), "a/bias is there twice"),
    "a remark at its end": (pack(SMALL, comment=b"x" * 99), "its table of contents is not one that numpy writes"),
    "wrong sum": (pack(SMALL).replace(b"\0\0\0?\0\0\0?", b"\0\0\0?\1\0\0?", 1), "Bad CRC-32"),
}


@pytest.mark.parametrize(("content", "text"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_checkpoint_is_one_line(tiny, content, text):
    with pytest.raises(WeightsError) as caught:
        read(content)
    assert str(caught.value).startswith("file.npz: not a checkpoint of MAXIM: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


BOMBS = {
    "behind its array": pack(SMALL, content=header((4,)) + bytes(1 << 26), method=zipfile.ZIP_DEFLATED),
    "with a shape to match": pack(SMALL, content=header((1 << 24,)) + bytes(1 << 26), method=zipfile.ZIP_DEFLATED),
    "in its header": pack(SMALL, content=b"\x93NUMPY\2\0\0\0\0\x10" + bytes(1 << 26), method=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_bomb_takes_no_memory(tiny, content):
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="a/bias has"):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_long_table_of_contents_is_never_read(tiny, monkeypatch):
    content = bytearray(pack(tiny))
    content[-10:-6] = (9 << 20).to_bytes(4, "little")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("was opened"))
    monkeypatch.setattr(zipfile, "is_zipfile", lambda _: True)
    with pytest.raises(WeightsError, match="its table of contents is not one that numpy writes"):
        read(bytes(content))


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_safetensors_are_held_to_the_same(tiny, prefix):
    def write(arrays):
        save_file({prefix + name: array for name, array in arrays.items()}, "a.safetensors")
        return read_published(Path("a.safetensors"))

    assert write(tiny)["a/kernel"].shape == (3, 3, 2, 4)
    for changes, text in (
        ({"a/bias": np.zeros(4)}, "numbers of the type F64, not F32 or F16"),
        ({"a/bias": np.zeros(5, np.float32)}, r"has the shape \(5,\), not \(4,\)"),
        ({"c": np.zeros(4, np.float32)}, "c does not belong there"),
    ):
        with pytest.raises(WeightsError, match=text):
            write({**tiny, **changes})
    Path("a.safetensors").write_bytes(Path("a.safetensors").read_bytes()[:-1])
    with pytest.raises(WeightsError, match="not a checkpoint of MAXIM"):
        read_published(Path("a.safetensors"))


def test_what_is_refused_is_not_imported_and_the_line_says_where_the_right_one_is(command):
    np.savez("plain.npz", x=np.zeros(3))
    status, out, err = command("weights", "import", "maxim-realblur-j", "plain.npz")
    assert (status, out, len(err)) == (1, [], 1)
    assert "UpSampleRatio_0/Conv_0/bias and 2749 more are missing" in err[0]
    assert err[0].endswith(f"; fetch it again from {PAGE}RealBlur_J")
    assert not imported_path(find_files("maxim-realblur-j")[0]).exists()
    assert command("weights", "import", "maxim-realblur-j", "nowhere.npz")[0] == 2


def test_a_maxim_of_ones_own_is_added_run_and_exported_by_its_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = MaximConfig(stages=1, width=8, side=4, window=32)
    mine, out = tmp_path / "mine.safetensors", tmp_path / "out"
    save_network(Maxim(config), mine, {"network": "maxim", "config": asdict(config), "training": {}})
    assert run_app(["weights", "add", "mine", str(mine)]) == 0
    backend = load_model("mine", device="cpu", dtype="float32")
    assert backend.module.config == config
    pixels = np.zeros((40, 50, 3), np.uint8)
    assert restore_image(pixels, backend).shape == pixels.shape
    assert run_app(["train", "export", "--expert", str(mine), "--out", str(out), "--licence", "Apache-2.0"]) == 0
    assert json.loads((out / "expert" / "config.json").read_text())["_class_name"] == "Maxim"
    assert run_app(["weights", "add", "again", str(out)]) == 0
    assert np.array_equal(
        restore_image(pixels, load_model("again", device="cpu", dtype="float32")), restore_image(pixels, backend)
    )
