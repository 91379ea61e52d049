"""A connection to the daemon."""

from __future__ import annotations

import threading
from typing import Any, Iterable, Mapping, Optional, Sequence, Type, TypeVar, Union

from . import _calls, _recall
from ._blocks import Blocks, blocks_of
from ._calls import Call, Deleted
from ._connection import Connection, Identity
from ._duration import Duration
from ._geometry import Geometry, Level, geometry_from
from ._policy import Policy
from ._recall import Range, Recalled
from ._errors import Miss
from ._session import Session
from ._token_ids import Match

T = TypeVar("T")


def connect(
    socket: Optional[str] = None,
    *,
    connections: int = 1,
    deadline: Optional[Duration] = 60.0,
    reconnect: bool = True,
    token: Optional[str] = None,
    token_file: Optional[str] = None,
    tls_ca: Optional[str] = None,
    tls_certificate: Optional[str] = None,
    tls_key: Optional[str] = None,
    tls_name: Optional[str] = None,
) -> Client:
    """Connects to the daemon at a socket's path, or host:port; None: $KVQ_SOCKET, else the usual
    places.

    connections: how many of them one large fetch or append may use, 1 to 8. deadline: of each call,
    in seconds or a timedelta; None: none. With reconnect a call that finds the connection gone makes
    a new one, and is repeated by itself where that does no harm.

    token: the secret that `kvq token` made, 64 hexadecimal digits; token_file: a file with it, which
    only its owner may read; neither: the file that $KVQ_TOKEN_FILE names, else none, and the daemon
    goes by the user that this process is.

    TLS 1.3 is spoken to host:port where tls_ca is set, a file with the authorities of which the
    daemon's certificate has to be. tls_certificate and tls_key are files with this client's, by which
    the daemon knows whose it is; only its owner may read the key. tls_name: what the daemon's
    certificate must name among its subjectAltNames, else the host. All in PEM; read anew for each
    connection. None: $KVQ_TLS_CA, $KVQ_TLS_CERTIFICATE, $KVQ_TLS_KEY, $KVQ_TLS_NAME, else none.

    CannotConnect: no daemon there, or not allowed in, or its certificate is not what it should be.
    Unauthenticated: the daemon does not know whose client this is. Invalid: what is given cannot be
    a token, a certificate or its key.
    """
    identity = Identity(token, token_file, tls_ca, tls_certificate, tls_key, tls_name)
    client = Client(Connection(socket, connections, deadline, reconnect, identity))
    try:
        client._run(client._connection.opening())
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """Comes from connect(). Threads that share it take turns; connect once more to work in parallel.

    A call ends by its deadline at the latest, and is not interrupted by a signal before. A process that
    was forked from this one has to connect anew.
    """

    def __init__(self, connection: Connection) -> None:
        self._lock = threading.Lock()
        self._connection = connection
        self._until: Optional[float] = None  # of time.monotonic(): when all calls must have ended

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Any, traceback: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; once more does nothing."""
        with self._lock:
            self._connection.close()

    @property
    def socket(self) -> str:
        """The address connected to."""
        with self._lock:
            return self._connection.address()

    @property
    def tenant(self) -> str:
        """Whose client this is, by its credential: sessions, models and blocks are this tenant's."""
        with self._lock:
            return self._connection.tenant()

    @property
    def role(self) -> str:
        """What it may do: "reader", "worker" or "admin"; else PermissionDenied."""
        with self._lock:
            return self._connection.role()

    def _run(self, call: Call[T]) -> T:
        with self._lock:
            if self._until is not None:
                self._connection.end_calls_at(self._until)
            return self._connection.finish(call, self._connection.begin(call))

    def ping(self) -> None:
        """Returns when the daemon has answered."""
        self._run(_calls.ping())

    def open(
        self,
        session: str,
        *,
        model: Optional[str] = None,
        geometry: Optional[Union[Geometry, Mapping[str, Any]]] = None,
        level: Optional[Level] = None,
        min_snr_db: Optional[float] = None,
        policy: Optional[Policy] = None,
        sharing: Optional[str] = None,
        durability: Optional[str] = None,
        key_summaries: bool = False,
        new: bool = False,
    ) -> Session:
        """Opens a session, and creates it if it is not there and geometry is given.

        model is its fingerprint. Without geometry the session must exist (Miss); without model too,
        it may be any model's. level ("exact", "fast8", 0 to 5) is that of a session that is
        created. With min_snr_db each of its pages gets the coarsest level, up to level or 5, that
        has so many decibels. policy says how it is kept: see Policy. With sharing "ids" it takes pages
        of other sessions for its own, and offers them its own, where all token ids up to there are
        the same and nothing is lost by it; with "bytes" only what is coded to the same bytes, as what
        is exact in any case. With durability "disk" what changes the session - append(), fork(),
        truncate(), delete(), policy(), pin(), age(), attach(), detach(), index(), unindex() - returns when that would
        outlast a loss of power, from now on; with "memory", as a session that is created, when it is done in memory.
        With key_summaries, of a session that is created, summaries of its keys are kept, up to 3 % of
        what K and V take at 16 bits, by which recall(queries=...) finds tokens.
        With new it must not exist (Exists). ModelMismatch: it is another model's, or has another
        geometry. Unsupported: a geometry that this daemon cannot hold.
        """
        call = _calls.open_or_find(
            session, model, geometry, level, min_snr_db, policy, sharing, durability, key_summaries, new
        )
        return Session(self, self._run(call))

    def match(
        self,
        token_ids: Sequence[int],
        model: str,
        salts: Optional[Iterable[tuple[int, int, bytes]]] = None,
        *,
        geometry: Optional[Union[Geometry, Mapping[str, Any]]] = None,
    ) -> Optional[Match]:
        """Returns (session, tokens): the session of this model that begins with the most of these
        tokens, and how many; None: none begins with the first.

        What a fork then has of that session's first tokens costs neither memory nor time:
        `client.open(session).fork(name, tokens, if_version=match.version)`. salts: as in
        Session.append(). geometry: only sessions of this one; None: any of the model's.
        """
        try:
            return self._run(_calls.match(token_ids, model, salts, geometry))
        except Miss:
            return None

    def recall(
        self,
        query: Any,
        k: int = 8,
        *,
        sessions: Optional[Sequence[str]] = None,
        model: Optional[str] = None,
        metric: str = "cosine",
        min_score: Optional[float] = None,
        label: Optional[str] = None,
        tokens: Optional[Range] = None,
        newer_than: Optional[Duration] = None,
        merge: bool = False,
        fetch: bool = False,
        dtype: Optional[str] = None,
        layers: Optional[range] = None,
    ) -> Recalled:
        """Finds the k (1 to 512) token ranges whose embeddings, given with Session.index(), are nearest
        to a query, [dim] in float32: a list of Hit, best first.

        sessions: names, all of one model; None: all sessions of `model`. Everything given holds of each
        hit: min_score; its label; a token of it is in `tokens`; it was put no more than newer_than
        seconds (or a timedelta) ago. With merge ranges of a session that overlap or touch become one,
        with the best's score. What forks share is found once. With fetch each hit has its K and V:
        in dtype and of these layers, as Session.fetch() takes them.

        Invalid: the query is not finite, or zero under cosine, or k cannot be, or the entries there
        are all of another dim or metric. Miss: a session is not there. ModelMismatch: it is another
        model's.
        """
        return self._run(
            _recall.recall(
                query,
                k,
                sessions=sessions,
                model=model,
                metric=metric,
                min_score=min_score,
                label=label,
                tokens=tokens,
                newer_than=newer_than,
                merge=merge,
                fetch=fetch,
                dtype=dtype,
                layers=layers,
            )
        )

    def flush(self) -> int:
        """Brings all sessions and blocks to disk as they are now, and returns how many sessions.

        Unsupported: the daemon has no disk. DiskFailed: it is full or failed.
        """
        return self._run(_calls.flush(None))

    def blocks(
        self,
        model: str,
        geometry: Union[Geometry, Mapping[str, Any]],
        *,
        level: Optional[Level] = None,
        min_snr_db: Optional[float] = None,
        policy: Optional[Policy] = None,
    ) -> Blocks:
        """The blocks of a model: tokens under keys of the host's own; level, min_snr_db and policy, as
        of open(), are of those that are put. Unsupported: a geometry that this daemon cannot hold.
        """
        known, call = blocks_of(model, geometry, level, min_snr_db, policy)
        return Blocks(self, known, self._run(call))

    def delete(self, session: str) -> int:
        """Deletes a session and returns the bytes that are free by that. Miss: there was none."""
        return self._run(_calls.delete(session))

    def delete_many(
        self,
        prefix: Optional[str] = None,
        model: Optional[str] = None,
        idle: Optional[Duration] = None,
        age: Optional[Duration] = None,
        pinned_too: bool = False,
        dry_run: bool = False,
    ) -> Deleted:
        """Deletes all sessions of which everything given holds, and returns (sessions, freed_bytes).

        prefix: the name begins with it. model: it is this model's. idle, age: not used for so long,
        made so long ago, at least; in seconds or a timedelta. At least one must be given (Invalid).
        Pinned sessions stay, unless pinned_too. With dry_run they are only counted, and freed_bytes
        is what each would free by itself, summed.
        """
        return self._run(_calls.delete_many(prefix, model, idle, age, pinned_too, dry_run))

    def sessions(self, all_tenants: bool = False) -> list[dict[str, Any]]:
        """What info() says of each session, without its levels; the oldest first. all_tenants: not only
        of those of this client's tenant; PermissionDenied: it is no admin."""
        page = self._run(_calls.list_sessions(0, all_tenants))
        found = page.sessions
        while page.more:
            page = self._run(_calls.list_sessions(page.after_id, all_tenants))
            found += page.sessions
        return found

    def control(self, state: Optional[str] = None, memory: Optional[int] = None) -> dict[str, Any]:
        """Changes what the daemon takes and its memory limit, and returns both with used_bytes.

        state "drained": no new sessions, forks, appends, attachments or blocks (ReadOnly);
        "read-only": no change but pins; "normal" ends both. memory: bytes, until the daemon reads its configuration again;
        Invalid: it cannot be that without a restart. None: stays. While used_bytes are more than
        limit_bytes, room is being made.
        """
        return self._run(_calls.control(state, memory))

    def status(self) -> dict[str, Any]:
        """The daemon's state: memory, sessions, requests; as `kvq status --json` has it."""
        return self._run(_calls.stats())
