"""An exception for each error number that a program may want to tell apart."""

from __future__ import annotations

from typing import Type

from ._kvq import ffi, lib


class Error(Exception):
    """A call that was refused or failed. `code` and `name` are those of kvq.h, and stable;
    `retryable` says whether the same call may succeed later."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.name: str = ffi.string(lib.kvq_error_name(code)).decode()
        self.retryable: bool = bool(lib.kvq_error_retryable(code))


class Invalid(Error, ValueError):
    """A value that cannot be; nothing was changed."""


class Miss(Error, LookupError):
    """No such session, range or attachment, or it went away on the way."""


class ModelMismatch(Error):
    """The session belongs to another model or geometry."""


class WrongFirst(Error):
    """An append must start at the session's length, which is `tokens`."""

    tokens: int


class TailMoved(Error):
    """Somebody kept changing the session's tail."""


class Busy(Error):
    """Somebody else is appending to the session."""


class Full(Error):
    """The daemon's memory limit is reached."""


class QuotaExceeded(Full):
    """A quota of the client's tenant is used up - memory, sessions, connections or disk -; the
    message says which. Others are served: what helps is to delete sessions of this tenant, or to
    have its `limit` raised."""


class VersionChanged(Error):
    """The session is no longer at if_version."""


class Exists(Error):
    """A session of this name exists."""


class Cancelled(Error):
    """The request was cancelled."""


class ShuttingDown(Error):
    """The daemon is shutting down."""


class ReadOnly(Error):
    """The daemon is drained or read-only: another may take it, or this one later."""


class DiskFailed(Error):
    """The daemon's disk failed or is full: what was asked is done, but in memory only."""


class Unauthenticated(Error, PermissionError):
    """The daemon does not know whose client this is: it needs a token, or another."""


class PermissionDenied(Error, PermissionError):
    """The client's role does not allow this; the message says which does."""


class Unsupported(Error):
    """A geometry or size that this daemon cannot hold."""


class CannotConnect(Error, ConnectionError):
    """No daemon at the socket, or not allowed in."""


class ConnectionLost(Error, ConnectionError):
    """The connection broke, and what was asked may be done or not. The next call connects anew,
    unless the client is closed or was made with reconnect=False."""


class Deadline(Error, TimeoutError):
    """No answer in time: the connection is closed, and what was asked may be done or not. The next
    call connects anew, unless the client was made with reconnect=False."""


_CLASSES: dict[int, Type[Error]] = {
    lib.KVQ_INVALID: Invalid,
    lib.KVQ_ARGUMENT: Invalid,
    lib.KVQ_MISS: Miss,
    lib.KVQ_MODEL_MISMATCH: ModelMismatch,
    lib.KVQ_WRONG_FIRST: WrongFirst,
    lib.KVQ_TAIL_MOVED: TailMoved,
    lib.KVQ_BUSY: Busy,
    lib.KVQ_FULL: Full,
    lib.KVQ_VERSION_CHANGED: VersionChanged,
    lib.KVQ_EXISTS: Exists,
    lib.KVQ_CANCELLED: Cancelled,
    lib.KVQ_SHUTTING_DOWN: ShuttingDown,
    lib.KVQ_READ_ONLY: ReadOnly,
    lib.KVQ_DISK: DiskFailed,
    lib.KVQ_UNAUTHENTICATED: Unauthenticated,
    lib.KVQ_PERMISSION_DENIED: PermissionDenied,
    lib.KVQ_QUOTA: QuotaExceeded,
    lib.KVQ_UNSUPPORTED: Unsupported,
    lib.KVQ_CANNOT_CONNECT: CannotConnect,
    lib.KVQ_CONNECTION_LOST: ConnectionLost,
    lib.KVQ_DEADLINE: Deadline,
}


def error_of(code: int, message: str) -> Error:
    return _CLASSES.get(code, Error)(code, message)
