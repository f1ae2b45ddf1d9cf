"""Verified files, fetched where they are missing: one at a time for a model, several side by side for a pull."""

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import WeightsError
from deblur_cli.weights import hub
from deblur_cli.weights.entries import WeightsFile
from deblur_cli.weights.hub import OnBytes
from deblur_cli.weights.store import PACKAGE, discard, expected_sha256, find_fault, known_hash, locate, pin

_LOG = logging.getLogger("deblur_cli")
_SIDE_BY_SIDE = 4
_PATIENCE = 1.0  # seconds for downloads to notice that they are not wanted any more


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified file and what it is known by."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file that is there now.

    Args:
        downloaded: it was not there before.
        pinned: its sha256, if nobody had published it and this was its first use.
    """

    file: WeightsFile
    path: Path
    downloaded: bool
    pinned: str | None


FetchOutcome = Pulled | WeightsError


def fetch(file: WeightsFile) -> Fetched:
    """A weights file, verified against the manifest's size and sha256; one of the Hub is downloaded if need be.

    A file that has not changed since it was verified is not read again. A bundled one is small and always is.

    Raises:
        WeightsError: the file is absent and cannot be had, or its bytes are not the ones the manifest promises.
    """
    pulled = _ensure(file, None, announce=True)
    if pulled.pinned:
        _LOG.warning("deblur: %s: nobody has published its sha256; pinned to %s", file.key, pulled.pinned)
    return Fetched(pulled.path, pulled.pinned or str(expected_sha256(file)))


def pull_files(
    files: Sequence[WeightsFile], on_bytes: OnBytes | None = None, *, offline: bool = False
) -> tuple[list[Pulled], list[WeightsError]]:
    """Make the files be there, verified, several downloads side by side; one that fails does not stop the others."""
    if len(files) < 2:  # in this thread, where Ctrl-C ends a download at once
        outcomes = [_attempt(file, on_bytes, offline=offline) for file in files]
    else:
        outcomes = _SideBySide(files, on_bytes, offline=offline).run()
    done = [outcome for outcome in outcomes if isinstance(outcome, Pulled)]
    return done, [outcome for outcome in outcomes if isinstance(outcome, WeightsError)]


class _Abandoned(Exception):
    """Nobody waits for this download any more."""


class _SideBySide:
    """A few threads that take file after file; they are daemons, so that Ctrl-C need not wait for a slow server."""

    def __init__(self, files: Sequence[WeightsFile], on_bytes: OnBytes | None, *, offline: bool) -> None:
        self._files, self._on_bytes, self._offline = files, on_bytes, offline
        self._todo: queue.SimpleQueue[WeightsFile] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[str, FetchOutcome | None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        for file in files:
            self._todo.put(file)

    def run(self) -> list[FetchOutcome]:
        """An outcome for every file, in their order."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in self._files[:_SIDE_BY_SIDE]]
        try:
            for thread in threads:
                thread.start()
            outcomes = dict(self._wait() for _ in self._files)
        except BaseException:
            self._abandon(threads)
            raise
        return [outcomes[file.key] for file in self._files]

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                file = self._todo.get_nowait()
            except queue.Empty:
                return
            outcome: FetchOutcome | None = None
            try:
                outcome = _attempt(file, self._tell, offline=self._offline)
            except _Abandoned:
                return
            finally:
                self._outcomes.put((file.key, outcome))  # None: a bug, whose traceback this thread prints

    def _wait(self) -> tuple[str, FetchOutcome]:
        while True:
            try:
                key, outcome = self._outcomes.get(timeout=0.2)  # on Windows only a short wait hears Ctrl-C
            except queue.Empty:
                continue
            if outcome is None:
                raise RuntimeError(f"{key}: its download ended with a bug, see above")
            return key, outcome

    def _tell(self, file: WeightsFile, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise _Abandoned
        if self._on_bytes is not None:
            self._on_bytes(file, done, total)

    def _abandon(self, threads: Sequence[threading.Thread]) -> None:
        self._stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_PATIENCE / len(threads))
        if any(thread.is_alive() for thread in threads):
            for file in self._files:
                hub.remove_partial(file)


def _attempt(file: WeightsFile, on_bytes: OnBytes | None, *, offline: bool) -> FetchOutcome:
    try:
        return _ensure(file, on_bytes, offline=offline)
    except WeightsError as fault:
        return fault


def _ensure(file: WeightsFile, on_bytes: OnBytes | None, *, offline: bool = False, announce: bool = False) -> Pulled:
    path = locate(file)
    fault = None if path is None else find_fault(file, path)
    if path is not None and fault is None:
        return Pulled(file, path, downloaded=False, pinned=_pin_first_use(file, path))
    if file.kind != "hub" or offline or hub.is_offline():
        raise _absent_fault(file, path, fault)
    if path is not None:
        discard(path)
    if announce:
        size = f", {file.bytes / 1e6:.1f} MB" if file.bytes else ""
        _LOG.warning("deblur: downloading %s%s, from %s/%s", file.key, size, hub.endpoint(), file.repository)
    return _download_verified(file, on_bytes)


def _download_verified(file: WeightsFile, on_bytes: OnBytes | None) -> Pulled:
    path = hub.download(file, on_bytes)
    if fault := find_fault(file, path):
        discard(path)
        source = f"{hub.endpoint()} sent other bytes than the manifest promises"
        again = f"try deblur weights pull {file.key} again, or another HF_ENDPOINT"
        raise WeightsError(f"{file.key}: {source} ({fault}); they were removed; {again}")
    return Pulled(file, path, downloaded=True, pinned=_pin_first_use(file, path))


def _pin_first_use(file: WeightsFile, path: Path) -> str | None:
    """The hash that was pinned just now, if nobody knew it before."""
    if expected_sha256(file) is not None:
        return None
    found = known_hash(path)
    pin(file, found)
    return found


def _absent_fault(file: WeightsFile, path: Path | None, fault: str | None) -> WeightsError:
    """The line for a file that cannot be used and cannot be fetched."""
    if file.kind == "hub" and path is None:
        return hub.offline_fault(file)
    if file.kind == "hub":
        return WeightsError(f"{path}: {fault}; go online and run deblur weights pull {file.key}")
    if file.kind == "page":
        what = "not on this machine" if path is None else f"{path} {fault}"
        return WeightsError(f"{file.key}: {what}; fetch {file.page}, then deblur weights import {file.key} FILE")
    if file.kind == "local":
        what = "is gone" if path is None else f"has changed since it was added ({fault})"
        return WeightsError(f"{file.local}: {what}; deblur weights remove {file.key}, then add it again")
    return WeightsError(f"{PACKAGE / file.path}: {fault or 'weights file is missing'}; reinstall deblur-cli")
