"""LPIPS without torchvision: the same keys, the same figures, and one line when a file is absent."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.wave_picture import waves

from deblur_cli import weights
from deblur_cli.benchmark import perceptual
from deblur_cli.errors import WeightsError
from deblur_cli.metrics import Sample
from deblur_cli.networks.lpips import Lpips
from deblur_cli.weights import store

HEADS = Path(perceptual.__file__).parents[1] / "bundled" / "lpips"

# Runs where torch, torchvision and `lpips` are; torchvision must never enter the tool's own environment.
REFERENCE = """
import sys
from pathlib import Path
import lpips, torch, torchvision
from safetensors.torch import load_file
shipped = {key.removeprefix("features."): value for key, value in load_file(sys.argv[2]).items()}
builds = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16, "shipped": torchvision.models.alexnet}
for name, build in builds.items():
    torch.manual_seed(0)
    backbone = build(weights=None).eval().features
    if name == "shipped":
        backbone.load_state_dict(shipped)
    features = backbone.state_dict()
    reference = lpips.LPIPS(net="vgg" if name == "vgg" else "alex", pnet_rand=True, verbose=False)
    for part in (module for key, module in reference.net.named_children() if key.startswith("slice")):
        part.load_state_dict({key: features[key] for key in part.state_dict()})
    pairs = [(torch.rand(1, 3, h, w), torch.rand(1, 3, h, w)) for h, w in ((64, 64), (97, 131), (200, 65))]
    pairs.append((pairs[1][0], (pairs[1][0] + 0.05 * torch.randn(1, 3, 97, 131)).clamp(0, 1)))
    with torch.no_grad():
        distances = [float(reference(first, second, normalize=True)) for first, second in pairs]
    backbone = {f"features.{key}": value for key, value in features.items()}
    torch.save({"backbone": backbone, "pairs": pairs, "distances": distances}, Path(sys.argv[1]) / f"{name}.pt")
"""


def random_backbone(network):
    torch.manual_seed(0)
    return {
        key: torch.randn_like(value) * 0.05
        for key, value in Lpips(network).features.state_dict(prefix="features.").items()
    }


def heads(network):
    return torch.load(HEADS / f"{network}.pth", map_location="cpu", weights_only=True)


def put_backbone(monkeypatch, folder):
    """A random backbone in a torch cache of its own, named by its own hash as torch names its files."""
    (folder / "checkpoints").mkdir(parents=True)
    path = folder / "checkpoints" / "new.pth"
    torch.save({**random_backbone("vgg"), "classifier.1.weight": torch.zeros(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(path.with_name(f"backbone-{digest}.pth"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    monkeypatch.setattr(perceptual, "VGG_FILE", path.name)
    return path


@pytest.mark.parametrize(("network", "layers", "parameters"), [("alex", 5, 2_469_696), ("vgg", 13, 14_714_688)])
def test_the_backbone_has_torchvisions_keys_and_size(network, layers, parameters):
    lpips = Lpips(network)
    keys = set(lpips.features.state_dict(prefix="features."))
    assert len(keys) == 2 * layers
    assert {"features.0.weight", "features.0.bias"} <= keys
    assert sum(weight.numel() for weight in lpips.features.parameters()) == parameters


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_equal_pictures_have_no_distance_and_others_have(network):
    lpips = Lpips(network)
    lpips.load_weights(random_backbone(network), heads(network))
    first, second = torch.rand(2, 3, 70, 81), torch.rand(2, 3, 70, 81)
    assert lpips(first, first).tolist() == [0, 0]
    assert (lpips(first, second) > 0).all()
    torch.testing.assert_close(lpips(first, second), lpips(second, first))
    torch.testing.assert_close(lpips(first, second)[:1], lpips(first[:1], second[:1]))


def test_weights_of_another_network_are_refused():
    with pytest.raises(RuntimeError):
        Lpips("alex").load_weights(random_backbone("vgg"), heads("alex"))


def test_a_picture_too_small_for_the_network_is_an_error():
    with pytest.raises(ValueError, match="63 pixels"):
        Lpips("alex")(torch.rand(1, 3, 62, 100), torch.rand(1, 3, 62, 100))
    assert Lpips("alex")(torch.rand(1, 3, 63, 63), torch.rand(1, 3, 63, 63)).shape == (1,)


def test_the_metric_takes_its_backbone_from_torchs_cache(monkeypatch, tmp_path):
    put_backbone(monkeypatch, tmp_path)
    metric = perceptual.load_perceptual("vgg")
    picture = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    assert metric(Sample(picture, picture, picture)) == 0
    assert metric(Sample(picture[::-1].copy(), picture, picture)) > 0


def test_without_backbone_the_message_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"download https://download.pytorch.org/models/vgg16-397923af.pth to "):
        perceptual.load_perceptual("vgg")


def test_a_damaged_backbone_is_not_unpickled(monkeypatch, tmp_path):
    path = put_backbone(monkeypatch, tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(WeightsError, match="sha256"):
        perceptual.load_perceptual("vgg")


@pytest.mark.parametrize(
    ("height", "width", "phase", "distance"),
    [(64, 64, 0.5, 0.03996201), (97, 131, 0.1, 0.00259175), (200, 65, 2.0, 0.21925385), (256, 256, 0.02, 0.00046248)],
)
def test_the_shipped_backbone_gives_the_distances_of_the_lpips_package(
    monkeypatch, tmp_path, height, width, phase, distance
):
    """The figures are those of lpips 0.1.4 on torchvision 0.29.1, with these weights in its AlexNet."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # empty: nothing comes from there
    lpips = perceptual.load_perceptual("alex").network
    assert float(lpips(waves(height, width, 0), waves(height, width, phase))) == pytest.approx(distance, rel=1e-3)


def test_a_damaged_shipped_backbone_is_never_used(monkeypatch, tmp_path):
    file = weights.read_manifest().files["lpips-alex-backbone"]
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    (tmp_path / file.path).parent.mkdir(parents=True)
    (tmp_path / file.path).write_bytes(bytes(file.bytes))
    with pytest.raises(WeightsError, match=r"alexnet_features.safetensors: sha256 is .*reinstall deblur-cli"):
        perceptual.load_perceptual("alex")


def test_the_shipped_heads_are_the_published_ones():
    for network in ("alex", "vgg"):
        listed = weights.read_manifest().files[f"lpips-{network}"].sha256
        assert hashlib.sha256((HEADS / f"{network}.pth").read_bytes()).hexdigest() == listed
    assert "Redistribution" in (HEADS / "LICENSE").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_distances_equal_the_lpips_packages(tmp_path):
    """Builds an environment with plain torch (5 GB); DEBLUR_LPIPS_PYTHON names one that is there already."""
    python = os.environ.get("DEBLUR_LPIPS_PYTHON")
    if not python:
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
        python = str(next((tmp_path / "environment").glob("[bS]*in*/python*")))
        needed = ("torch", "torchvision", "lpips", "safetensors")
        subprocess.run([python, "-m", "pip", "install", "-q", *needed], check=True)
    shipped = HEADS / "alexnet_features.safetensors"
    subprocess.run([python, "-W", "ignore", "-c", REFERENCE, tmp_path, shipped], check=True)
    for name, network in (("alex", "alex"), ("vgg", "vgg"), ("shipped", "alex")):
        known = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        lpips = perceptual.load_perceptual("alex").network if name == "shipped" else Lpips(network)
        if name != "shipped":
            lpips.load_weights(known["backbone"], heads(network))
        for (first, second), distance in zip(known["pairs"], known["distances"], strict=True):
            assert float(lpips(first, second)) == pytest.approx(distance, abs=1e-5)
