"""One client of libkvq, and the making of its calls. Whoever shares it takes turns."""

from __future__ import annotations

import math
import os
import time
from typing import Any, NamedTuple, Optional, TypeVar

from ._calls import Call, options_of, text
from ._duration import Duration, milliseconds
from ._errors import error_of
from ._kvq import ffi, lib

T = TypeVar("T")
CONNECTIONS_MAX = 8
ROLES = "unknown", "reader", "worker", "admin"


class Identity(NamedTuple):
    """Whose client this is, and by what it knows the daemon: fields of struct kvq_connect_options."""

    token: Optional[str] = None
    token_file: Optional[str] = None
    tls_ca: Optional[str] = None
    tls_certificate: Optional[str] = None
    tls_key: Optional[str] = None
    tls_name: Optional[str] = None


class Connection:
    """opening() has to be called, as its first call."""

    def __init__(
        self,
        socket: Optional[str],
        connections: int,
        deadline: Optional[Duration],
        reconnect: bool,
        identity: Identity = Identity(),
        non_blocking: bool = False,
    ) -> None:
        self._client = ffi.NULL
        self._process = os.getpid()
        if not 1 <= connections <= CONNECTIONS_MAX:
            raise ValueError(f"connections is 1 to {CONNECTIONS_MAX}, not {connections}")
        options, opened = options_of("kvq_connect_options"), ffi.new("struct kvq_client **")
        name = text("kvquantd (Python)")
        path = ffi.NULL if socket is None else text(socket)
        options.socket, options.name = path, name
        options.deadline_ms = -1 if deadline is None else max(1, milliseconds(deadline, "deadline"))
        options.connections, options.no_reconnect = connections, not reconnect
        options.non_blocking = non_blocking
        known = {field: text(one) for field, one in identity._asdict().items() if one is not None}
        for field, memory in known.items():
            setattr(options, field, memory)
        self._opened: int = lib.kvq_connect(options, opened)
        self._client = opened[0]
        if self._client == ffi.NULL:
            raise error_of(self._opened, self._message(self._opened))

    def opening(self) -> Call[None]:
        return Call(lambda client: self._opened, (), lambda: None)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        client, self._client = self._client, ffi.NULL
        lib.kvq_close(client)

    def handle(self) -> Any:
        if self._client == ffi.NULL:
            raise error_of(lib.KVQ_CONNECTION_LOST, "the client is closed")
        if self._process != os.getpid():
            message = "the client belongs to the process that this one was forked from; connect anew"
            raise error_of(lib.KVQ_CONNECTION_LOST, message)
        return self._client

    def address(self) -> str:
        return str(ffi.string(lib.kvq_client_socket(self.handle())).decode())

    def tenant(self) -> str:
        return str(ffi.string(lib.kvq_client_tenant(self.handle())).decode())

    def role(self) -> str:
        return ROLES[lib.kvq_client_role(self.handle())]

    def _message(self, code: int) -> str:
        if self._client == ffi.NULL:
            return str(ffi.string(lib.kvq_error_sentence(code)).decode())
        return str(ffi.string(lib.kvq_client_message(self._client)).decode(errors="replace"))

    def end_calls_at(self, until: float) -> None:
        """Those from now on, by time.monotonic(). Deadline: that is now."""
        left_ms = math.ceil((until - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise error_of(lib.KVQ_DEADLINE, "the time for this and the calls before it is up")
        lib.kvq_set_deadline(self.handle(), left_ms)

    def begin(self, call: Call[Any]) -> int:
        """Returns a number of enum kvq_error."""
        return int(call.function(self.handle(), *call.arguments))

    def finish(self, call: Call[T], code: int) -> T:
        """What begin(), or the last step, has returned, as a result or an exception."""
        if code:
            error = error_of(code, self._message(code))
            call.explain(error)
            raise error
        return call.result()
