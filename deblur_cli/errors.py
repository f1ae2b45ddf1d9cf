"""The family of errors that end a command with one line and an exit status.

    DeblurError        1   anything this tool can explain
    ├── InputError     2   found before the work: a named path is missing, nothing to do, a bad option
    ├── WeightsError   1   unknown name, checksum differs, keys do not match, offline and not cached
    ├── BackendError   1   out of memory, the asked device is missing, disk full
    ├── PhotoError     3   this one photo cannot be read or written; a batch notes it and goes on
    └── BatchFailed    3   at least one photo failed, or a folder could not be listed; the others are written

Libraries raise these; only `app.py` prints them and exits.
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the shell sees in `$?`."""

    OK = 0
    FAILURE = 1
    INPUT = 2
    BATCH_FAILED = 3
    INTERRUPTED = 130
    TERMINATED = 143


class DeblurError(Exception):
    """A fault that the user can act on; its text is one line: what, which file, what to do next."""

    exit_status = ExitStatus.FAILURE


class InputError(DeblurError):
    """Found before the work began; nothing was written."""

    exit_status = ExitStatus.INPUT


class WeightsError(DeblurError):
    """Weights are unknown, damaged, unverified or do not fit the network."""


class BackendError(DeblurError):
    """The machine cannot do what was asked: device, memory or disk."""


class PhotoError(DeblurError):
    """One photo cannot be read or written; a batch notes it and goes on with the next."""

    exit_status = ExitStatus.BATCH_FAILED


class BatchFailed(DeblurError):
    """At least one photo failed, or a folder could not be listed; each was already named on its own line."""

    exit_status = ExitStatus.BATCH_FAILED
