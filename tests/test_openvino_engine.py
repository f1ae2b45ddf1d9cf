"""OpenVINO makes the picture that torch makes, is compiled once, and is chosen where it was measured to be quicker."""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from support.deblur_process import run_python
from support.flow_transformer_factory import build, points
from torch import Tensor, nn

from deblur_cli.backends import engines, openvino_engine
from deblur_cli.backends.engines import Float32Fallback, check_engine, choose_engine
from deblur_cli.benchmark.cost import count_macs
from deblur_cli.errors import BackendError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled networks go, and whether they were told of, as in a new process."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    openvino_engine.tell_once.cache_clear()
    return tmp_path / "deblur" / "compiled"


def lively(network: nn.Module) -> nn.Module:
    """Weights that let everything through, not the zeros of the beginning."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)


def unet() -> nn.Module:
    return lively(DenseUNet(DenseUNetConfig(2, (8, 12), (1, 1), (1,))))


def maxim() -> nn.Module:
    return lively(Maxim(MaximConfig(width=8, side=4, window=64)))


def codec() -> nn.Module:
    return lively(ResidualCodec(ResidualCodecConfig(4, (8, 12), (1, 1), (1, 1))))


def photo(height: int, width: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))


CALLS = [
    (unet, "predict_residual", lambda: [(photo(48, 64),), (photo(96, 32),), (photo(64, 64, 3),)]),
    (maxim, "predict_residual", lambda: [(photo(64, 64),), (photo(32, 64),)]),
    (codec, "encode", lambda: [(photo(64, 96),), (photo(104, 40),)]),
    (codec, "decode", lambda: [(torch.randn(1, 4, 8, 12), photo(64, 96)), (torch.randn(1, 4, 5, 3), photo(40, 24))]),
]


@needs_openvino
@pytest.mark.parametrize(("make", "method", "calls"), CALLS, ids=["unet", "maxim", "encode", "decode"])
def test_every_network_makes_the_same_of_photos_of_every_size(make, method, calls) -> None:
    network = make()
    engine = Float32Fallback(network, CPU, torch.float32, "openvino")
    for tensors in calls():
        with torch.inference_mode():
            expected, found = getattr(network, method)(*tensors), engine.run(method, *tensors)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5 * float(expected.abs().max())


@needs_openvino
def test_in_fewer_bits_the_picture_is_nearly_the_same() -> None:
    network, tensors = unet(), photo(64, 96)
    with torch.inference_mode():
        expected = network.predict_residual(tensors)
        found = Float32Fallback(network, CPU, torch.bfloat16, "openvino").run("predict_residual", tensors)
    assert (found - expected).abs().max() <= 0.05 * float(expected.abs().max())
    assert found.dtype == torch.float32


@needs_openvino
@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_flow_sees_so_many_windows_at_once_whatever_is_left(count: int) -> None:
    flow = build("sd3.5-medium").eval().requires_grad_(False)
    flow.widen()
    x_t, t, blurry = points(count)
    engine = Float32Fallback(flow, CPU, torch.float32, "openvino")
    with torch.inference_mode():
        assert (engine.run("forward", x_t, t, blurry) - flow(x_t, t, blurry)).abs().max() <= 1e-4


@needs_openvino
def test_a_flow_that_does_not_see_the_photo_is_called_without_it() -> None:
    flow = build("sd3.5-medium").eval().requires_grad_(False)
    x_t, t, _ = points(2)
    engine = Float32Fallback(flow, CPU, torch.float32, "openvino")
    with torch.inference_mode():
        assert (engine.run("forward", x_t, t, None) - flow(x_t, t)).abs().max() <= 1e-4


@needs_openvino
def test_it_is_compiled_once_told_once_and_taken_from_the_disk_then(home, caplog, monkeypatch) -> None:
    blurry = photo(64, 64)
    with caplog.at_level(logging.WARNING, "deblur_cli"):
        first = Float32Fallback(unet(), CPU, torch.float32, "openvino").run("predict_residual", blurry)
        Float32Fallback(codec(), CPU, torch.float32, "openvino").run("encode", blurry)
    assert [record.getMessage() for record in caplog.records] == [
        f"deblur: compiling networks for this CPU, once; they are kept in {home}"
    ]
    assert len(list(home.iterdir())) == 2
    monkeypatch.setattr(openvino_engine.OpenVinoEngine, "compile_call", lambda *_: pytest.fail("compiled again"))
    again = Float32Fallback(unet(), CPU, torch.float32, "openvino").run("predict_residual", blurry)
    assert torch.equal(first, again)


@needs_openvino
def test_other_weights_or_another_format_are_another_file(home: Path) -> None:
    other = unet()
    other.get_parameter("stem.bias").data[0] += 1
    for network, dtype in ((unet(), torch.float32), (other, torch.float32), (unet(), torch.bfloat16)):
        Float32Fallback(network, CPU, dtype, "openvino").run("predict_residual", photo(64, 64))
    assert len(list(home.iterdir())) == 3


@needs_openvino
def test_a_damaged_file_and_a_folder_that_cannot_be_written_cost_only_time(home: Path) -> None:
    blurry = photo(64, 64)
    first = Float32Fallback(unet(), CPU, torch.float32, "openvino").run("predict_residual", blurry)
    (file,) = home.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert torch.equal(Float32Fallback(unet(), CPU, torch.float32, "openvino").run("predict_residual", blurry), first)
    file.unlink()
    home.rmdir()
    home.write_text("in the way")
    assert torch.equal(Float32Fallback(unet(), CPU, torch.float32, "openvino").run("predict_residual", blurry), first)


@needs_openvino
def test_operations_are_counted_as_in_torch() -> None:
    tensors = photo(64, 96)
    fast = Float32Fallback(unet(), CPU, torch.float32, "openvino")
    slow = Float32Fallback(unet(), CPU, torch.float32)
    with torch.inference_mode():
        found, expected = (count_macs(lambda e=e: e.run("predict_residual", tensors)) for e in (fast, slow))
    assert found == expected


@needs_openvino
def test_what_it_cannot_take_is_one_line() -> None:
    class Strange(DenseUNet):
        def predict_residual(self, blurry: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(blurry[..., :8, :8])

    engine = Float32Fallback(Strange(DenseUNetConfig(2, (8, 12), (1, 1), (1,))), CPU, torch.float32, "openvino")
    with pytest.raises(BackendError, match=r"OpenVINO does not take Strange .*; add --engine torch"):
        engine.run("predict_residual", photo(64, 64))


@needs_openvino
def test_nobody_is_told_over_the_network_that_it_is_used() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; "
    code += "from deblur_cli.backends.openvino_engine import list_formats; list_formats(); "
    code += "sys.exit(any(name.startswith('openvino_telemetry') for name in sys.modules))"
    assert run_python(["-c", code]).returncode == 0


def test_it_is_chosen_on_cpus_where_it_is_installed_for_networks_that_were_measured(monkeypatch) -> None:
    monkeypatch.setattr(engines.platform, "machine", lambda: "x86_64")
    cuda = torch.device("cuda")
    assert choose_engine(None, CPU, unet()) == "torch"
    with pytest.raises(BackendError, match="--engine openvino: is not installed; pip install 'deblur-cli"):
        choose_engine("openvino", CPU, unet())
    monkeypatch.setattr(engines, "has_openvino", lambda: True)
    assert choose_engine(None, CPU, unet()) == choose_engine("auto", CPU, codec()) == "openvino"
    assert choose_engine(None, CPU, maxim()) == "torch"
    assert choose_engine("openvino", CPU, maxim()) == "openvino"
    assert choose_engine("torch", CPU, unet()) == choose_engine(None, cuda, unet()) == "torch"
    assert choose_engine(None, CPU, unet(), nn.Linear(2, 2)) == "torch"
    with pytest.raises(BackendError, match="--engine openvino: is for CPUs; add --device cpu"):
        choose_engine("openvino", cuda, unet())
    with pytest.raises(BackendError, match="does not run Linear"):
        choose_engine("openvino", CPU, nn.Linear(2, 2))
    monkeypatch.setattr(engines.platform, "machine", lambda: "arm64")
    assert choose_engine(None, CPU, unet()) == "torch"
    assert choose_engine("openvino", CPU, unet()) == "openvino"


def test_what_only_torch_runs_says_so() -> None:
    check_engine(None, "DeblurDiff")
    check_engine("torch", "DeblurDiff")
    with pytest.raises(BackendError, match="--engine openvino: does not run DeblurDiff; leave the option out"):
        check_engine("openvino", "DeblurDiff")
