"""One file from the Hub into its cache, by huggingface_hub; every way that fails is one line with the next command.

Knows nothing of verification. HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE and the proxies are huggingface_hub's.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from deblur_cli.errors import WeightsError
from deblur_cli.weights.entries import WeightsFile
from deblur_cli.weights.rules import is_revision
from deblur_cli.weights.store import cached_repository, disk_fault

OnBytes = Callable[[WeightsFile, int, int | None], None]  # bytes that are there, bytes in all where known
Answer = TypeVar("Answer")

WAITS = (0.5, 1.5, 4.0)  # seconds before the second, third and fourth try
CHUNK = 1 << 20  # a cut costs at most this much, and progress moves this often; huggingface_hub takes 10 MB
_FALSE = ("", "0", "no", "off", "false")
LARGEST = 1 << 36  # bytes of a file of which nobody has said how large it is
_SAFE_TAG = re.compile(r"(?!\.+$)[\w.-]{1,128}", re.ASCII)


def is_offline() -> bool:
    """Whether the user has forbidden the network: `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` or `DEBLUR_OFFLINE`."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("DEBLUR_OFFLINE", "").lower() not in _FALSE


def endpoint() -> str:
    """The Hub that is asked: `HF_ENDPOINT`, a mirror perhaps."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def download(file: WeightsFile, on_bytes: OnBytes | None = None) -> Path:
    """Fetch a file of the Hub; two processes that want the same one fetch it once.

    A cut connection is resumed where it broke. An interrupted process leaves nothing, its next pull begins anew.

    Args:
        on_bytes: called as the bytes come; without it huggingface_hub draws its own bar on a terminal.
    Returns:
        Its path in the Hub's cache; the bytes are not verified yet.
    Raises:
        WeightsError: gated, not there, no network, disk full, or the Hub is out of order.
    """
    from huggingface_hub import constants

    prepare_client()
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    try:
        size = retry(lambda: _ask_size(file))
        _check_disk(file, size)
        most = min(known for known in (file.bytes, size, LARGEST) if known is not None)
        return retry(lambda: _download(file, on_bytes, most))
    except (OSError, http_error()) as fault:
        raise explain(fault, file) from fault


def remove_partial(file: WeightsFile) -> None:
    """Remove what an abandoned download of this file has left; only where its name is the file's hash."""
    if file.sha256:
        for path in cached_repository(file).glob(f"blobs/{file.sha256}.*incomplete"):
            path.unlink(missing_ok=True)


def explain(fault: Exception, file: WeightsFile) -> WeightsError:
    """What went wrong and what to type next, in one line."""
    from huggingface_hub import errors

    cause = fault.__cause__ if isinstance(fault, errors.LocalEntryNotFoundError) and fault.__cause__ else fault
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return offline_fault(file)
    status = find_status(cause)
    if status is not None:
        return WeightsError(f"{file.key}: {_explain_answer(cause, status, file)}")
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, (ConnectionError, TimeoutError)):
        return disk_fault(cause, cached_repository(file) / file.name)
    return _unreachable(cause, file)


def _explain_answer(fault: BaseException, status: int, file: WeightsFile) -> str:
    from huggingface_hub import errors

    if isinstance(fault, (errors.RevisionNotFoundError, errors.EntryNotFoundError)):
        by_hand = f"fetch it elsewhere, then deblur weights import {file.key} FILE"
        return f"{endpoint()}/{file.repository} has no {file.name} at {file.revision[:12]}; {by_hand}"
    return explain_refusal(fault, status, file.repository, f"deblur weights pull {file.key}")


def explain_refusal(fault: BaseException, status: int, repository: str, again: str) -> str:
    """Why the Hub does not give what it may well have, and what to do before typing `again`."""
    from huggingface_hub import errors

    page = f"{endpoint()}/{repository}"
    if isinstance(fault, errors.GatedRepoError):
        return f"{page} is gated; accept its terms there, set HF_TOKEN or run 'hf auth login', then {again}"
    if isinstance(fault, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"{page} was not found, is private, or HF_TOKEN is not valid ({status}); look there, then {again}"
    if status == 403:
        return f"{page} refuses this HF_TOKEN (403); give it read access, then {again}"
    return f"{describe_outage(status)}; wait a little, then {again}"


def describe_outage(status: int) -> str:
    """The Hub itself cannot answer now."""
    return f"{endpoint()} {'asks for fewer requests' if status == 429 else 'is out of order'} ({status})"


def offline_fault(file: WeightsFile) -> WeightsError:
    """The line for a file that would have to be fetched while the network is forbidden."""
    next_step = f"run deblur weights pull {file.key} with a network"
    return WeightsError(f"{file.key}: not on this machine, and nothing is fetched offline; {next_step}")


class _Bar:
    """Looks to huggingface_hub like a tqdm bar, and passes on what it hears.

    The names are tqdm's; `update_transfer` makes the Xet client feed one bar, not one for the network and one for
    the disk.
    """

    def __init__(self, tell: Callable[[int, int | None], None], options: dict[str, Any]) -> None:
        self._tell = tell
        self.n: int = options.get("initial") or 0
        self.total: int | None = options.get("total")
        self._tell(self.n, self.total)

    def update(self, count: float | None = 1) -> None:
        self.n += int(count or 0)
        self._tell(self.n, self.total)

    def update_transfer(self, count: float | None = 1) -> None:
        """Bytes on the wire; those on the disk are the ones that count."""

    def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
        """Not shown."""

    def set_transfer_postfix_str(self, text: str = "", refresh: bool = True) -> None:
        """Not shown."""

    def refresh(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *fault: object) -> None:
        """Nothing to close."""


def bar_class(file: WeightsFile, on_bytes: OnBytes | None, most: int) -> type[Any]:
    """What huggingface_hub takes for a class of progress bars: it also ends a download that does not end by itself.

    Args:
        on_bytes: who is told; None for huggingface_hub's own bar.
        most: bytes that may come.
    """
    from huggingface_hub.utils.tqdm import tqdm

    def watch(done: int) -> None:
        if done > most:
            what = f"{endpoint()} sends more than the {most} bytes that it may have"
            raise WeightsError(f"{file.key}: {what}; nothing was kept, try another HF_ENDPOINT")

    class Bar(_Bar):
        def __init__(self, **options: Any) -> None:
            def tell(done: int, total: int | None) -> None:
                watch(done)
                if on_bytes is not None:
                    on_bytes(file, done, total or file.bytes)

            super().__init__(tell, options)

    class DrawnBar(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._come: int = options.get("initial") or 0
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call,unused-ignore]

        def update(self, n: float | None = 1) -> bool | None:
            self._come += int(n or 0)
            watch(self._come)
            drawn: bool | None = super().update(n)
            return drawn

    return DrawnBar if on_bytes is None else Bar


def _download(file: WeightsFile, on_bytes: OnBytes | None, most: int) -> Path:
    from huggingface_hub import hf_hub_download

    bar = bar_class(file, on_bytes, most)
    path = hf_hub_download(file.repository, file.name, revision=file.revision, library_name="deblur", tqdm_class=bar)
    return Path(path)


def _ask_size(file: WeightsFile) -> int | None:
    """Ask before the download: a missing network then costs seconds; huggingface_hub alone takes half a minute."""
    from huggingface_hub import file_download, hf_hub_url

    url = hf_hub_url(file.repository, file.name, revision=file.revision)
    size = file_download.get_hf_file_metadata(url).size
    return size if size is not None and size >= 0 else None


def retry(attempt: Callable[[], Answer]) -> Answer:
    """Try again, a few times and with pauses, what may well work the next time."""
    for wait in WAITS:
        try:
            return attempt()
        except (OSError, http_error()) as fault:
            if not _is_transient(fault):
                raise
            time.sleep(wait)
    return attempt()


def _is_transient(fault: Exception) -> bool:
    status = find_status(fault)
    if status is not None:
        return status in (408, 429) or status >= 500
    return isinstance(fault, http_error()) or "Consistency check failed" in str(fault)


def find_status(fault: BaseException) -> int | None:
    """The Hub's answer in a fault of its client; None where it has not answered."""
    status = getattr(getattr(fault, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _check_disk(file: WeightsFile, size: int | None) -> None:
    folder = cached_repository(file)
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if size is not None and free < size:
        need = f"{file.key} takes {size / 1e6:.0f} MB and {there} has {free / 1e6:.0f} MB left"
        raise WeightsError(f"disk full: {need}; free some space or set HF_HOME elsewhere")


def _unreachable(fault: BaseException, file: WeightsFile) -> WeightsError:
    reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    by_hand = f"or fetch the file by hand and run deblur weights import {file.key} FILE"
    return WeightsError(f"{file.key}: cannot fetch it from {endpoint()} ({reason}); check the network, {by_hand}")


def http_error() -> type[Exception]:
    """The base of every fault of the HTTP client; its package is called httpx or httpx2, as huggingface_hub chose."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def prepare_client() -> None:
    """Look at every answer that huggingface_hub makes paths of, and silence its own warnings.

    It writes to `blobs/ETAG` and `snapshots/COMMIT` of its cache as the server names them; a mirror may name a path
    that leads elsewhere, at the first question or at a later one.
    """
    from huggingface_hub import file_download

    ask = file_download.get_hf_file_metadata
    if not hasattr(ask, "is_checked"):

        @wraps(ask)
        def ask_and_check(*arguments: Any, **options: Any) -> Any:
            answer = ask(*arguments, **options)
            for word, value, is_safe in (
                ("ETag", answer.etag, _SAFE_TAG.fullmatch),
                ("commit", answer.commit_hash, is_revision),
            ):
                if value is not None and not is_safe(value):
                    what = f"its {word} {value[:60]!r} is no name for a file"
                    raise WeightsError(f"{endpoint()}: {what}; nothing was fetched, use another HF_ENDPOINT")
            return answer

        ask_and_check.is_checked = True  # type: ignore[attr-defined]
        file_download.get_hf_file_metadata = ask_and_check
    _silence_warnings()


def _silence_warnings() -> None:
    if not os.environ.get("HF_HUB_VERBOSITY") and not os.environ.get("HF_DEBUG"):
        # Warnings about retries would stand between our lines; who sets its verbosity wants them.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
