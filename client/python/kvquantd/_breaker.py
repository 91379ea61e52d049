"""Calls to a daemon that whoever makes them can do without: it may be gone, frozen, full or slow."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from types import TracebackType
from typing import Callable, Iterable, Iterator, Optional, Type, TypeVar, Union

from ._client import Client, connect
from ._duration import Duration, milliseconds
from ._errors import (
    Busy,
    Cancelled,
    DiskFailed,
    Error,
    Exists,
    Full,
    Invalid,
    Miss,
    ModelMismatch,
    ReadOnly,
    TailMoved,
    Unsupported,
    VersionChanged,
    WrongFirst,
)
from ._kvq import lib

T = TypeVar("T")
M = TypeVar("M")

ANSWERS = Busy, Cancelled, Exists, Miss, ModelMismatch, TailMoved, VersionChanged, WrongFirst
REFUSALS = DiskFailed, Full, ReadOnly, Unsupported
REFUSAL_CODES = lib.KVQ_TOO_LARGE, lib.KVQ_TOO_MANY_REQUESTS

log = logging.getLogger("kvquantd")


class Circuit:
    """Closed until several calls in a row have failed; then open for a time, after which one at a time
    is let through until one succeeds. Its owner locks it."""

    def __init__(
        self, verb: str, failures: int, retry_after: float, clock: Callable[[], float]
    ) -> None:
        self._verb, self._failures_max = verb, failures
        self._retry_after, self._clock = retry_after, clock
        self._failures = 0
        self._probe_at: Optional[float] = None  # None: closed
        self._probing = False

    @property
    def state(self) -> str:
        if self._probe_at is None:
            return "closed"
        return "half-open" if self._probing else "open"

    def enter(self) -> bool:
        """Whether a call may be made; note() or leave() follows."""
        if self._probe_at is None:
            return True
        if self._probing or self._clock() < self._probe_at:
            return False
        self._probing = True
        return True

    def leave(self) -> None:
        """The call tells nothing."""
        self._probing = False

    def note(self, succeeded: bool, error: Optional[Error]) -> None:
        if succeeded:
            self._succeed()
        else:
            self._fail(error)

    def _succeed(self) -> None:
        if self._probe_at is not None:
            log.warning("kvquantd %ss again", self._verb)
        self._failures, self._probe_at, self._probing = 0, None, False

    def _fail(self, error: Optional[Error]) -> None:
        was_closed = self._probe_at is None
        self._failures += 1
        self._probing = False
        if was_closed and self._failures < self._failures_max:
            return
        self._probe_at = self._clock() + self._retry_after
        if was_closed:
            told = "kvquantd does not %s: %s; that is a miss, and tried again every %g s"
            log.warning(told, self._verb, error, self._retry_after)


class Breaker:
    """Makes calls so that a daemon which does not serve costs little: they are misses.

        breaker = kvquantd.Breaker(deadline=1.0)

        def fetch(client):
            return client.open("chat-1").fetch()

        found = breaker.run(fetch)      # None: a miss, whatever the reason

    run() takes no longer than the deadline, all calls of its work together and connecting counted. After
    `failures` such runs in a row that the daemon did not serve, others are misses at once, without a
    wait; each `retry_after` seconds one is tried, and when that is served all are again. A daemon that
    has no room (Full, ReadOnly, DiskFailed, Unsupported) stops only runs that write: what it holds is
    fetched meanwhile. That a session is not there, is another model's or somebody else's to append to is
    a miss, and no failure.

    There need be no daemon yet: a run connects when there is no connection to use. Threads may share a
    breaker, and each that runs at the same time has a connection of its own; so has a forked process.
    Changes of `state` are logged once each, to the logger "kvquantd".
    """

    def __init__(
        self,
        socket: Optional[str] = None,
        *,
        deadline: Duration = 2.0,
        failures: int = 3,
        retry_after: Duration = 5.0,
        connections: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """socket, connections: as in connect(). deadline, retry_after: seconds or a timedelta. clock:
        tells when to try again. ValueError: a time or number that cannot be."""
        if failures < 1:
            raise ValueError(f"failures is at least 1, not {failures}")
        self._socket, self._connections = socket, connections
        self._deadline = _seconds(deadline, "deadline")
        again = _seconds(retry_after, "retry_after")
        self._serves = Circuit("serve", failures, again, clock)
        self._takes = Circuit("take", failures, again, clock)
        self._misses = self._failures = self._skipped = 0
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Client] = []
        self._process = os.getpid()

    def __enter__(self) -> Breaker:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections that are not in use. A later run connects anew."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    # ---- What there is to know ----

    @property
    def state(self) -> str:
        """ "closed": calls are made. "open": they are not. "half-open": one is being tried."""
        return self._serves.state

    @property
    def write_state(self) -> str:
        """The same of runs that write, for which the daemon must have room too."""
        return self._takes.state if self._serves.state == "closed" else self._serves.state

    @property
    def misses(self) -> int:
        """Runs that ended in a miss, for whatever reason."""
        return self._misses

    @property
    def failures(self) -> int:
        """Those of them that the daemon did not serve or take."""
        return self._failures

    @property
    def skipped(self) -> int:
        """Those for which it was not asked, since it had not served others."""
        return self._skipped

    # ---- Running ----

    def run(
        self,
        work: Callable[[Client], T],
        miss: M = None,  # type: ignore[assignment]
        *,
        writes: bool = False,
        deadline: Optional[Duration] = None,
    ) -> Union[T, M]:
        """Returns work(client), or miss where the daemon does not serve that in time.

        The client, and sessions that it opens, are work's until it returns. writes: it appends, forks or
        the like, for which the daemon must have room. deadline: of this run; None: the breaker's.
        What is wrong in the call itself - Invalid, ValueError, TypeError, and all that is no
        kvquantd.Error - is raised.
        """
        limit = self._deadline if deadline is None else _seconds(deadline, "deadline")
        circuits = (self._serves, self._takes) if writes else (self._serves,)
        if not self._enter(circuits):
            return miss
        try:
            with self._client(time.monotonic() + limit) as client:
                result = work(client)
        except Error as error:
            if isinstance(error, Invalid):
                self._leave(circuits)
                raise
            self._note(error, writes)
            return miss
        except BaseException:
            self._leave(circuits)
            raise
        self._note(None, writes)
        return result

    def _enter(self, circuits: tuple[Circuit, ...]) -> bool:
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            entered = [circuit for circuit in circuits if circuit.enter()]
            if len(entered) == len(circuits):
                return True
            self._misses += 1
            self._skipped += 1
        self._leave(entered)
        return False

    def _leave(self, circuits: Iterable[Circuit]) -> None:
        with self._lock:
            for circuit in circuits:
                circuit.leave()

    @contextlib.contextmanager
    def _client(self, until: float) -> Iterator[Client]:
        """One that nobody else uses. Where it fails in a way that may be the connection's, it is closed."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            left = max(until - time.monotonic(), 0.001)
            client = connect(self._socket, connections=self._connections, deadline=left)
        client._until = until
        usable = False
        try:
            yield client
            usable = True
        except (*ANSWERS, *REFUSALS):
            usable = True
            raise
        finally:
            if usable:
                with self._lock:
                    self._idle.append(client)
            else:
                client.close()

    def _note(self, error: Optional[Error], writes: bool) -> None:
        """What a run tells of the daemon."""
        refused = isinstance(error, REFUSALS) or getattr(error, "code", 0) in REFUSAL_CODES
        served = error is None or refused or isinstance(error, ANSWERS)
        with self._lock:
            self._misses += error is not None
            self._failures += refused or not served
            self._serves.note(served, error)
            if writes and (refused or error is None):
                self._takes.note(not refused, error)
            elif writes:
                self._takes.leave()


def _seconds(duration: Duration, what: str) -> float:
    return max(milliseconds(duration, what), 1) / 1000
