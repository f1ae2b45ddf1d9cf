"""The switch of the C library; what it gains, `deblur bench --speed` tells."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from deblur_cli.system.devices import tune_malloc
kept = tune_malloc() if sys.argv[1] == "keep" else False
for _ in range(3):
    block = bytearray(64 << 20)
    del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = bytearray(64 << 20)
    del block
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(how: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", PROGRAM, how]
    kept, faults = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return bool(int(kept)), int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's switch")
def test_large_blocks_that_were_freed_are_used_again_without_new_pages() -> None:
    kept, faults = count_faults("keep")
    if not kept:
        pytest.skip("this C library has no such switch")
    assert faults < 0.1 * count_faults("leave")[1]


def test_elsewhere_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur_cli.system import devices

    monkeypatch.setattr(sys, "platform", "darwin")
    assert devices.tune_malloc() is False
