"""Checkpoints from strangers: nothing in them runs, and whatever is wrong with them is one line."""

import argparse
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.runs_code import RunsCode
from torch import nn

from deblur_cli.checkpoint import check_tensors, load_strict, read_content
from deblur_cli.errors import WeightsError

NETWORK = nn.Linear(3, 2)


def refusal(path: Path, key: str | None = None) -> str:
    """The one line that loading ends with."""
    with pytest.raises(WeightsError) as caught:
        load_strict(nn.Linear(3, 2), path, key)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert len(text) < 500
    return text


def save(content: Any, path: Path, *, archive: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    return path


def state(**more: Any) -> dict[str, Any]:
    return {**NETWORK.state_dict(), **more}


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.PTH", "old.pth", "a.safetensors"])
@pytest.mark.parametrize("key", [None, "params"])
def test_every_kind_of_file_loads(name: str, key: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        key = None
        save_file(state(), path)
    else:
        save({key: state()} if key else state(), path, archive=name != "old.pth")
    network = nn.Linear(3, 2)
    load_strict(network, path, key)
    assert torch.equal(network.weight, NETWORK.weight)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_runs_code_is_refused_before_it_runs(archive: bool, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = save({"params": state(), "more": RunsCode(witness)}, tmp_path / "bad.pth", archive=archive)
    assert "posix.system and could run code" in refusal(path, "params")
    assert not witness.exists()


def test_objects_that_are_no_tensors_are_refused_by_name(tmp_path: Path) -> None:
    path = save({"params": state(), "opt": argparse.Namespace(lr=1)}, tmp_path / "a.ckpt")
    assert "argparse.Namespace" in refusal(path, "params")
    assert "'step' is none" in refusal(save(state(step=3), tmp_path / "b.pth"))
    assert "no table of tensors" in refusal(save([1, 2], tmp_path / "c.pth"))
    assert "no table of tensors" in refusal(save({}, tmp_path / "d.pth"))
    assert "'weight' is none" in refusal(save(state(weight=torch.eye(3).to_sparse()), tmp_path / "e.pth"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "old.pth"])
def test_a_file_that_ends_too_soon_is_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state(), path)
    else:
        save(state(), path, archive=name != "old.pth")
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:length])
        assert "damaged weights file" in refusal(path)


def test_garbage_and_unknown_kinds_and_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        path = tmp_path / name
        path.write_bytes(b"garbage" * 40)
        assert "damaged weights file" in refusal(path)
    assert "not a weights file; .safetensors, .pth, .pt, .ckpt are" in refusal(tmp_path / "a.onnx")
    assert "no such file" in refusal(tmp_path / "b.safetensors")
    assert "no such file" in refusal(tmp_path / "b.pth")


def test_a_header_that_claims_10_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((10 * 2**30).to_bytes(8, "little") + b"{}")
    assert "header too large" in refusal(path)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "damaged" in refusal(path)


def test_tensors_that_claim_more_than_their_file_has_are_refused(tmp_path: Path) -> None:
    path = save(state(weight=torch.zeros(1).expand(100_000, 25_000)), tmp_path / "a.pth")
    assert path.stat().st_size < 5000
    assert "tensors claim 10.0 GB" in refusal(path)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    path = save(state(more=torch.zeros(100_000)), tmp_path / "a.pth")
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "compressed" in refusal(packed)


def test_keys_and_shapes_must_match(tmp_path: Path) -> None:
    assert 'Missing key(s) in state_dict: "bias"' in refusal(save({"weight": NETWORK.weight}, tmp_path / "a.pth"))
    assert 'Unexpected key(s) in state_dict: "more"' in refusal(save(state(more=torch.eye(2)), tmp_path / "b.pth"))
    assert "size mismatch for bias" in refusal(save(state(bias=torch.zeros(3)), tmp_path / "c.pth"))
    assert "no table 'params', but weight, bias" in refusal(save(state(), tmp_path / "d.pth"), "params")
    assert "no table 'weight'" in refusal(save(state(), tmp_path / "e.pth"), "weight")


def test_whatever_happens_to_the_bytes_the_answer_is_one_line_or_tensors(tmp_path: Path) -> None:
    generators = random.Random(7)
    files = [
        save({"a": torch.rand(3, 4)}, tmp_path / "new.pth"),
        save({"a": torch.rand(2)}, tmp_path / "o.pt", archive=False),
    ]
    for whole in [path.read_bytes() for path in files for _ in range(250)]:
        broken = bytearray(whole)
        for _ in range(generators.choice((1, 2, 8))):
            broken[generators.randrange(len(broken))] = generators.randrange(256)
        path = tmp_path / "broken.pth"
        path.write_bytes(broken)
        try:
            check_tensors(read_content(path), path)
        except WeightsError as fault:
            assert "\n" not in str(fault)
