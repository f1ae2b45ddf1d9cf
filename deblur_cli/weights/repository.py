"""A whole repository of the Hub: the commit of a branch, a small file of it, and a folder pushed to it.

Files of weights are `hub`'s. What fails is one line with the next command.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.weights import hub
from deblur_cli.weights.entries import WeightsFile
from deblur_cli.weights.rules import is_repository, is_revision
from deblur_cli.weights.store import cached_path, disk_fault

SMALL = 1 << 20  # bytes of a file that is read whole
_MESSAGE = "Add a model for deblur-cli"  # of the commit


@dataclass(frozen=True, slots=True)
class Pushed:
    """A folder on the Hub.

    Attributes:
        source: what `deblur weights add` takes, with the full commit.
    """

    url: str
    source: str


def read_small_file(repository: str, revision: str, name: str) -> tuple[str, bytes]:
    """A file of at most `SMALL` bytes that is read once, through the Hub's cache.

    Args:
        revision: a commit, a branch or a tag.
    Returns:
        The full commit, and the bytes.
    Raises:
        WeightsError: no such repository, revision or file, gated, no network, too large, or offline and not in the
            cache.
    """
    wanted = WeightsFile(name, "", "", repository=repository, revision=revision, name=name)
    if is_revision(revision) and (cached := cached_path(wanted)).is_file():
        with cached.open("rb") as stream:
            return revision, stream.read(SMALL + 1)  # one more than may be: whoever reads it sees that it is too large
    if hub.is_offline():
        raise WeightsError(f"{wanted.origin}: not on this machine, and nothing is fetched offline; go online first")
    hub.prepare_client()
    try:
        commit, size = hub.retry(lambda: _find_commit(wanted))
        return commit, hub.retry(lambda: _read(wanted, commit, size))
    except (OSError, hub.http_error()) as fault:
        raise _explain_reading(fault, wanted) from fault


def check_push(repository: str) -> None:
    """Everything about a push that can be refused before the work.

    Raises:
        InputError: no usable name, offline, or nobody is logged in.
    """
    from huggingface_hub import get_token

    if not is_repository(repository):
        raise InputError(f"--push {repository}: must have the form OWNER/NAME")
    if hub.is_offline():
        raise InputError(f"--push {repository}: nothing is sent offline; leave it out, or unset HF_HUB_OFFLINE")
    if get_token() is None:
        raise InputError(
            f"--push {repository}: the Hub needs a token that may write; run 'hf auth login' or set HF_TOKEN"
        )


def push_folder(folder: Path, repository: str, *, private: bool, show_bars: bool = False) -> Pushed:
    """Send a folder to the Hub; the repository is made if it is not there.

    Args:
        private: of a new repository; one that is there stays as visible as it is.
        show_bars: let huggingface_hub draw its progress bars.
    Raises:
        WeightsError: the Hub refuses, or cannot be reached; what to type next is in the message.
    """
    from huggingface_hub import HfApi

    hub.prepare_client()
    api = HfApi(library_name="deblur")
    try:
        url = hub.retry(lambda: api.create_repo(repository, private=private or None, exist_ok=True))
        with _silence_bars(unless=show_bars):
            commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=_MESSAGE)
    except (OSError, hub.http_error(), ValueError, RuntimeError) as fault:  # the last two are how its uploads fail
        private_flag = " --private" if private else ""
        again = f"hf upload {repository} {shlex.quote(str(folder))}{private_flag}"
        what = f"{folder}: written but not pushed"
        raise WeightsError(f"{what}: {_explain_push(_unwrap(fault), repository)}, then {again}") from fault
    return Pushed(str(url), f"hf://{repository}@{commit.oid}")


@contextmanager
def _silence_bars(*, unless: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if unless or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _find_commit(file: WeightsFile) -> tuple[str, int]:
    """The full commit, and how many bytes the file may have there."""
    from huggingface_hub import file_download, hf_hub_url

    answer = file_download.get_hf_file_metadata(hf_hub_url(file.repository, file.name, revision=file.revision))
    commit = answer.commit_hash
    if (answer.size or 0) > SMALL:
        raise WeightsError(f"{file.origin}: has {answer.size} bytes, over the limit of {SMALL}; it is no {file.name}")
    if not is_revision(commit):
        raise WeightsError(f"{file.origin}: {hub.endpoint()} does not say at which commit it is; name the full commit")
    return str(commit), SMALL if answer.size is None else answer.size


def _read(file: WeightsFile, commit: str, most: int) -> bytes:
    from huggingface_hub import hf_hub_download

    silent = hub.bar_class(file, lambda *_: None, most)
    path = hf_hub_download(file.repository, file.name, revision=commit, library_name="deblur", tqdm_class=silent)
    return Path(path).read_bytes()


def _explain_reading(fault: Exception, file: WeightsFile) -> WeightsError:
    from huggingface_hub import errors

    page, status = f"{hub.endpoint()}/{file.repository}", hub.find_status(fault)
    if isinstance(fault, errors.RevisionNotFoundError):
        return WeightsError(f"{page} has no revision {file.revision}; see {page}/commits")
    if isinstance(fault, errors.EntryNotFoundError):
        return WeightsError(
            f"{page} has no {file.name}; name one of its files: hf://{file.repository}@COMMIT/FILE, with --like MODEL"
        )
    if status is not None:
        return WeightsError(hub.explain_refusal(fault, status, file.repository, "add it again"))
    if isinstance(fault, OSError) and fault.errno and not isinstance(fault, (ConnectionError, TimeoutError)):
        return disk_fault(fault, cached_path(file))
    return WeightsError(f"{page}: cannot be reached ({_first_line(fault)}); check the network, then add it again")


def _unwrap(fault: Exception) -> BaseException:
    """What stopped the upload of a file, which the client wraps; a bug in there stays a traceback."""
    cause = fault.__cause__ if isinstance(fault, RuntimeError) else None
    if cause is None:
        return fault
    if not isinstance(cause, (OSError, hub.http_error(), ValueError)):
        raise fault
    return cause


def _explain_push(fault: BaseException, repository: str) -> str:
    page, status = f"{hub.endpoint()}/{repository}", hub.find_status(fault)
    if status == 401:
        return f"{hub.endpoint()} does not know this token (401); run 'hf auth login' or set HF_TOKEN"
    if status in (403, 404) or isinstance(fault, PermissionError):  # the Xet client's has no status
        code = f" ({status})" if status else ""
        return f"this token may not write to {page}{code}; give it write access there, or choose another owner"
    if status is not None and (status == 429 or status >= 500):
        return f"{hub.describe_outage(status)}; wait a little"
    if status is not None or isinstance(fault, ValueError):
        return f"{page} refuses it ({_first_line(fault)}); mend that"
    return f"{hub.endpoint()} cannot be reached ({_first_line(fault)}); check the network"


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return " ".join(lines)[:200] or type(fault).__name__
