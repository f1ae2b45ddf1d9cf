"""What every test stands on."""

import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deblur_cli.system.openmp import wait_briefly

if TYPE_CHECKING:
    from support.fake_backend import FakeBackend

Command = Callable[..., tuple[int, list[str], list[str]]]

wait_briefly()  # as the command line does

# MKL may let its sums depend on where in memory a tensor lies; on some processors nothing is then equal to the bit.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

# The tests are about this tool: where OpenVINO is installed, only those that ask for it meet it.
os.environ["DEBLUR_ENGINE"] = "torch"

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the tests that press it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a skipped test says where something could be installed, and not where the system is another one.
_INSTALLABLE = ("could not import", "not installed", "apt-get install")
_skipped: list[str] = []


@pytest.fixture(autouse=True)
def _torch_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur_cli.backends.engines.has_openvino", lambda: False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append(f"{report.nodeid}: {report.longrepr[2]}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that is skipped for want of a package or a program has failed."""
    if "DEBLUR_TESTS_SKIP_NOTHING" in os.environ and session.exitstatus == pytest.ExitCode.OK:
        lacking = [line for line in _skipped if any(words in line.lower() for words in _INSTALLABLE)]
        for line in lacking:
            sys.stderr.write(f"skipped, but installable: {line}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if lacking else session.exitstatus


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process: status, lines of stdout, lines of stderr."""
    from deblur_cli.app import run_app

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        capfd.readouterr()
        status = run_app([str(argument) for argument in arguments])
        streams = capfd.readouterr()
        return status, streams.out.splitlines(), streams.err.splitlines()

    return run


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with settings and a cache of its own in it; nothing goes to a network."""
    from support.hub_user import stay_offline

    stay_offline(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """`mine.pth`: a file of the user's, which holds no network."""
    from support.manifest_tables import BYTES

    path = tmp_path / "mine.pth"
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def inverting(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> "FakeBackend":
    """`deblur run` inverts photos, whatever model it is given; in a home of its own."""
    from support.fake_backend import FakeBackend

    from deblur_cli import backends, weights

    backend = FakeBackend(lambda blurry: 1 - blurry)
    monkeypatch.setattr(weights, "find_model", lambda name: weights.ModelEntry(name, "fake", "inverts", {}))
    monkeypatch.setattr(backends, "load_model", lambda model, **_: backend)
    return backend


@pytest.fixture
def bench_command(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line with a network of three lines in every model's place: status, stdout, stderr.

    Any name has an entry, those that begin with `flow` one with a flow.
    """
    from support.benchmark_factory import FILE, load_fake

    from deblur_cli import weights
    from deblur_cli.app import run_app
    from deblur_cli.benchmark import scoring

    def find_entry(name: str) -> weights.ModelEntry:
        kind = "dual_expert" if name.startswith("flow") else "expert"
        return weights.ModelEntry(name, kind, "s", {"weights": FILE})

    monkeypatch.setattr(scoring, "load_model", load_fake)
    monkeypatch.setattr(weights, "find_model", find_entry)

    def run(*arguments: object) -> tuple[int, str, str]:
        status = run_app([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def spandrel() -> types.ModuleType:
    """The installed one; its import must not need a torchvision here."""
    from support.real_spandrel import import_spandrel

    return import_spandrel()
