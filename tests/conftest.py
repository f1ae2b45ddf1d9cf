"""What every test stands on."""

import os
import signal
import sys

import pytest

from deblur_cli.backends import engines

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
    monkeypatch.setattr(engines, "has_openvino", lambda: False)


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
