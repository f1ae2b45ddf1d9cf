"""`import deblur_cli`: what a program of somebody else uses."""

import numpy as np
import pytest
from support.deblur_process import run_python
from support.export_factory import write_expert

import deblur_cli


def test_a_photo_is_restored_in_two_calls() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    restored = deblur_cli.restore_image(pixels, deblur_cli.load_model("quick", device="cpu"))
    assert (restored.shape, restored.dtype) == (pixels.shape, np.uint8)
    assert not np.array_equal(restored, pixels)


def test_a_path_is_the_file_of_an_expert(tmp_path) -> None:
    write_expert(tmp_path / "mine.safetensors")
    model = deblur_cli.load_model(tmp_path / "mine.safetensors", device="cpu")
    assert model.name == "mine"
    assert deblur_cli.restore_image(np.zeros((20, 30, 3), np.uint16), model).dtype == np.uint16


@pytest.mark.parametrize(
    ("model", "kind"),
    [("no-such-model", deblur_cli.WeightsError), ("quick:steps=2", deblur_cli.InputError)],
)
def test_faults_are_of_one_family(model, kind) -> None:
    with pytest.raises(kind) as fault:
        deblur_cli.load_model(model)
    assert isinstance(fault.value, deblur_cli.DeblurError)
    assert issubclass(deblur_cli.BackendError, deblur_cli.DeblurError)
    assert issubclass(deblur_cli.PhotoError, deblur_cli.DeblurError)


def test_the_import_is_light_and_tells_what_there_is() -> None:
    code = "import sys, deblur_cli; sys.exit(bool({'torch', 'numpy', 'PIL', 'typer'} & set(sys.modules)))"
    assert run_python(["-c", code]).returncode == 0
    assert set(dir(deblur_cli)) == set(deblur_cli.__all__)
    assert all(getattr(deblur_cli, name) for name in deblur_cli.__all__)
    assert all(getattr(deblur_cli, name).__doc__ for name in deblur_cli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'restore'"):
        deblur_cli.restore  # noqa: B018
