"""Threads that wait for each other leave the core to others; said before torch is there, and not against the user."""

import os
import subprocess
import sys

import pytest

from deblur_cli.system.openmp import wait_briefly


@pytest.mark.parametrize(
    ("told", "found"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["nothing", "a number", "a policy"],
)
def test_what_the_user_says_counts(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], found: str | None) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == found


def test_the_command_line_says_it_before_torch_is_loaded() -> None:
    script = (
        "import os, sys\n"
        "sys.argv = ['deblur', 'weights', 'path', 'quick']\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print('torch', os.environ.get('GOMP_SPINCOUNT'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import deblur_cli.__main__ as entry\n"
        "try:\n"
        "    entry.main()\n"
        "finally:\n"
        "    import torch\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=clean)
    assert "torch 3000" in done.stdout.splitlines()
