"""A connection to the daemon."""

from __future__ import annotations

import threading
from typing import Any, Mapping, Optional, Type, Union

from . import _report
from ._errors import error_of
from ._geometry import Geometry, Level, geometry_from, geometry_to_c, level_to_c
from ._kvq import ffi, lib
from ._session import Session


def connect(socket: Optional[str] = None, *, deadline_seconds: Optional[float] = 60.0) -> Client:
    """Connects to the daemon at a socket's path; None: $KVQ_SOCKET, else the usual places.

    deadline_seconds is that of each call; None: none.
    """
    return Client(socket, deadline_seconds)


class Client:
    """One connection. Threads that share it take turns; connect once more to work in parallel."""

    def __init__(self, socket: Optional[str], deadline_seconds: Optional[float]) -> None:
        self._lock = threading.Lock()
        self._client = ffi.NULL
        options = ffi.new("struct kvq_connect_options *")
        name = ffi.new("char[]", b"kvquantd (Python)")
        path = ffi.NULL if socket is None else ffi.new("char[]", socket.encode())
        options.size = ffi.sizeof("struct kvq_connect_options")
        options.socket, options.name = path, name
        options.deadline_ms = -1 if deadline_seconds is None else max(1, int(deadline_seconds * 1000))
        opened = ffi.new("struct kvq_client **")
        code = lib.kvq_connect(options, opened)
        self._client = opened[0]
        if code:
            error = error_of(code, self._message(code))
            self.close()
            raise error

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Any, traceback: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; once more does nothing."""
        with self._lock:
            client, self._client = self._client, ffi.NULL
            lib.kvq_close(client)

    @property
    def socket(self) -> str:
        with self._lock:
            return ffi.string(lib.kvq_client_socket(self._handle())).decode()

    def _handle(self) -> Any:
        if self._client == ffi.NULL:
            raise error_of(lib.KVQ_CONNECTION_LOST, "the client is closed")
        return self._client

    def _message(self, code: int) -> str:
        if self._client == ffi.NULL:
            return ffi.string(lib.kvq_error_sentence(code)).decode()
        return ffi.string(lib.kvq_client_message(self._client)).decode(errors="replace")

    def _call(self, function: Any, *arguments: Any) -> None:
        """Calls with the lock held by the caller."""
        code = function(self._handle(), *arguments)
        if code:
            raise error_of(code, self._message(code))

    def ping(self) -> None:
        with self._lock:
            self._call(lib.kvq_ping)

    def open(
        self,
        session: str,
        *,
        model: Optional[str] = None,
        geometry: Optional[Union[Geometry, Mapping[str, Any]]] = None,
        level: Optional[Level] = None,
        new: bool = False,
    ) -> Session:
        """Opens a session, and creates it if it is not there and geometry is given.

        model is its fingerprint. Without geometry the session must exist (Miss); without model too,
        it may be any model's. level ("exact", "fast8", 0 to 5) is that of a session that is
        created. With new it must not exist (Exists).
        """
        state = ffi.new("struct kvq_session_state *")
        if model is None:
            if geometry is not None or new:
                raise ValueError("a session is created for a model: name it")
            with self._lock:
                self._call(lib.kvq_find, _name(session), state)
            return Session(self, state)
        options = ffi.new("struct kvq_open_options *")
        options.size = ffi.sizeof("struct kvq_open_options")
        name, fingerprint = ffi.new("char[]", _name(session)), ffi.new("char[]", _name(model))
        options.session, options.model = name, fingerprint
        options.mode = lib.KVQ_OPEN_EXISTING
        if geometry is not None:
            c_geometry = geometry_to_c(geometry_from(geometry))
            options.geometry = c_geometry
            options.mode = lib.KVQ_OPEN_NEW if new else lib.KVQ_OPEN_OR_CREATE
        if level is not None:
            options.has_level, options.level = True, level_to_c(level)
        with self._lock:
            self._call(lib.kvq_open, options, state)
        return Session(self, state)

    def delete(self, session: str) -> int:
        """Deletes a session and returns the bytes that are free by that. Miss: there was none."""
        freed = ffi.new("uint64_t *")
        with self._lock:
            self._call(lib.kvq_delete, _name(session), freed)
        return freed[0]

    def sessions(self) -> list[dict[str, Any]]:
        """What info() says of each session, without its levels; the oldest first."""
        page = ffi.new("struct kvq_session_list *")
        found: list[dict[str, Any]] = []
        after, more = 0, True
        with self._lock:
            while more:
                self._call(lib.kvq_list, after, 0, page)
                found += [_report.session_info(page.sessions[i]) for i in range(page.count)]
                after = page.sessions[page.count - 1].id if page.count else after
                more = page.more
        return found

    def status(self) -> dict[str, Any]:
        """The daemon's state: memory, sessions, requests; as `kvq status --json` has it."""
        stats = ffi.new("struct kvq_stats *")
        with self._lock:
            self._call(lib.kvq_stats, stats)
            return _report.status(stats)


def _name(text: str) -> bytes:
    name = text.encode()
    if b"\0" in name:
        raise ValueError(f"{text!r} has a zero byte in it")
    return name
