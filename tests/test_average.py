"""A training's weights, averaged with what it began with."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deblur_cli.app import run_app
from deblur_cli.backends.expert import read_network
from deblur_cli.checkpoint import read_metadata, save_network
from deblur_cli.errors import WeightsError
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.system.files import hash_file

ONE, TWO = (MaximConfig(stages=stages, width=8, side=4, window=32) for stages in (1, 2))


def save(path: Path, config: MaximConfig, seed: int) -> Path:
    torch.manual_seed(seed)
    save_network(Maxim(config), path, {"network": "maxim", "config": asdict(config), "training": {"steps": seed}})
    return path


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_average_lies_between_a_training_and_the_longer_network_it_began_with(tmp_path: Path, share: float) -> None:
    trained, origin = save(tmp_path / "a.safetensors", ONE, 1), save(tmp_path / "b.safetensors", TWO, 2)
    out = tmp_path / "out" / "c.safetensors"
    assert run_app(["train", "average", str(trained), str(origin), "--share", str(share), "-o", str(out)]) == 0
    first, second, mixed = (load_file(path) for path in (trained, origin, out))
    assert mixed.keys() == first.keys()
    for key, tensor in mixed.items():
        expected = share * first[key].float() + (1 - share) * second[key].float()
        assert torch.allclose(tensor.float(), expected, rtol=1e-2, atol=1e-3)  # it is written as bfloat16
    told = read_metadata(out)
    assert told["averaged"] == {"share": share, "with": hash_file(origin)}
    assert told["training"] == {"steps": 1}
    assert read_network(out, "dense_unet", {}).config == ONE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.safetensors", "b.safetensors", "-o", "c.pth"], "ends in .safetensors"),
        (["a.safetensors", "b.safetensors", "-o", "c.safetensors", "--share", "2"], "--share"),
        (["b.safetensors", "a.safetensors", "-o", "c.safetensors"], "give what the training began with"),
        (["a.safetensors", "missing.safetensors", "-o", "c.safetensors"], "missing.safetensors"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(arguments, told, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.safetensors"), ONE, 1)
    save(Path("b.safetensors"), TWO, 2)
    assert run_app(["train", "average", *arguments]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not Path("c.safetensors").exists()


def test_a_training_may_begin_with_the_first_stage_of_a_longer_network(tmp_path: Path) -> None:
    origin = save(tmp_path / "b.safetensors", TWO, 2)
    network = read_network(origin, "maxim", asdict(ONE))
    assert network.config == ONE
    with pytest.raises(WeightsError, match="holds no"):
        read_network(save(tmp_path / "a.safetensors", ONE, 1), "maxim", asdict(TWO))
