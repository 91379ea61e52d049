"""The same client for asyncio: every call is awaited, and no thread is used.

    import kvquantd.aio

    async with await kvquantd.aio.connect() as client:
        session = await client.open("chat-1")
        k, v = await session.fetch(tokens=range(0, 512))

What a call takes, returns and raises stands at kvquantd.Client and kvquantd.Session. Arrays that are
given to a call must be left alone until it is done. If its task is cancelled, so is the call, and
the client serves on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Iterable, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from . import _blocks, _calls, _recall, _recall_keys, _transfer
from ._calls import Attachment, Call, Deleted
from ._connection import Connection, Identity
from ._duration import Duration
from ._geometry import Geometry, Level
from ._kvq import lib
from ._policy import Policy
from ._recall import Range, Recalled
from ._recall_keys import RecalledKeys
from ._blocks import Pair
from ._errors import Exists, Miss
from ._session import SessionState
from ._token_ids import Match
from ._transfer import Fetched

__all__ = ["AsyncBlocks", "AsyncClient", "AsyncSession", "connect"]

T = TypeVar("T")


async def connect(
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
) -> AsyncClient:
    """As kvquantd.connect()."""
    identity = Identity(token, token_file, tls_ca, tls_certificate, tls_key, tls_name)
    connection = Connection(socket, connections, deadline, reconnect, identity, non_blocking=True)
    client = AsyncClient(connection)
    try:
        await client._run(connection.opening())
    except BaseException:
        connection.close()
        raise
    return client


class _Steps:
    """Goes on with a call whenever it can; `code` becomes its result."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._fd: int = lib.kvq_client_fd(client)
        self._is_read = False
        self._timer: Optional[asyncio.TimerHandle] = None
        self.code: asyncio.Future[int] = self._loop.create_future()
        self._wait()

    def _wait(self) -> None:
        wants_to_read = lib.kvq_client_events(self._client) != 0
        if wants_to_read != self._is_read:
            self._watch(wants_to_read)
        timeout_ms = lib.kvq_client_timeout_ms(self._client)
        if timeout_ms >= 0:
            self._wake_at(self._loop.time() + timeout_ms / 1000)

    def _watch(self, wants_to_read: bool) -> None:
        if wants_to_read:
            self._loop.add_reader(self._fd, self._step)
        else:
            self._loop.remove_reader(self._fd)
        self._is_read = wants_to_read

    def _wake_at(self, when: float) -> None:
        """A timer that is set already may stay: a step too early does no harm."""
        if self._timer and self._timer.when() <= when:
            return
        self._end_timer()
        self._timer = self._loop.call_at(when, self._on_time)

    def _end_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._step()

    def stop(self) -> None:
        """Once more does nothing."""
        self._watch(False)
        self._end_timer()

    def _step(self) -> None:
        code = lib.kvq_step(self._client)
        if code == lib.KVQ_AGAIN:
            self._wait()
            return
        self.stop()
        if not self.code.done():
            self.code.set_result(code)


class AsyncClient:
    """Comes from connect(). Tasks that share it take turns; connect once more to work in parallel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], value: Any, traceback: Any
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, after the call that is under way; once more does nothing."""
        async with self._turn:
            self._connection.close()

    @property
    def socket(self) -> str:
        """The address connected to."""
        return self._connection.address()

    @property
    def tenant(self) -> str:
        """Whose client this is, by its credential."""
        return self._connection.tenant()

    @property
    def role(self) -> str:
        """What it may do: "reader", "worker" or "admin"."""
        return self._connection.role()

    async def _run(self, call: Call[T]) -> T:
        async with self._turn:
            code = self._connection.begin(call)
            if code == lib.KVQ_AGAIN:
                code = await self._rest()
            return self._connection.finish(call, code)

    async def _rest(self) -> int:
        client = self._connection.handle()
        steps = _Steps(client)
        try:
            return await steps.code
        except BaseException:
            lib.kvq_cancel(client)
            raise
        finally:
            steps.stop()

    async def ping(self) -> None:
        """As Client.ping()."""
        await self._run(_calls.ping())

    async def open(
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
    ) -> AsyncSession:
        """As Client.open()."""
        call = _calls.open_or_find(
            session, model, geometry, level, min_snr_db, policy, sharing, durability, key_summaries, new
        )
        return AsyncSession(self, await self._run(call))

    async def match(
        self,
        token_ids: Sequence[int],
        model: str,
        salts: Optional[Iterable[tuple[int, int, bytes]]] = None,
        *,
        geometry: Optional[Union[Geometry, Mapping[str, Any]]] = None,
    ) -> Optional[Match]:
        """As Client.match()."""
        try:
            return await self._run(_calls.match(token_ids, model, salts, geometry))
        except Miss:
            return None

    async def recall(self, query: Any, k: int = 8, **options: Any) -> Recalled:
        """As Client.recall()."""
        return await self._run(_recall.recall(query, k, **{**_recall.DEFAULTS, **options}))

    async def flush(self) -> int:
        """As Client.flush()."""
        return await self._run(_calls.flush(None))

    async def blocks(
        self,
        model: str,
        geometry: Union[Geometry, Mapping[str, Any]],
        *,
        level: Optional[Level] = None,
        min_snr_db: Optional[float] = None,
        policy: Optional[Policy] = None,
    ) -> AsyncBlocks:
        """As Client.blocks()."""
        known, call = _blocks.blocks_of(model, geometry, level, min_snr_db, policy)
        return AsyncBlocks(self, known, await self._run(call))

    async def delete(self, session: str) -> int:
        """As Client.delete()."""
        return await self._run(_calls.delete(session))

    async def delete_many(
        self,
        prefix: Optional[str] = None,
        model: Optional[str] = None,
        idle: Optional[Duration] = None,
        age: Optional[Duration] = None,
        pinned_too: bool = False,
        dry_run: bool = False,
    ) -> Deleted:
        """As Client.delete_many()."""
        return await self._run(_calls.delete_many(prefix, model, idle, age, pinned_too, dry_run))

    async def sessions(self, all_tenants: bool = False) -> list[dict[str, Any]]:
        """As Client.sessions()."""
        page = await self._run(_calls.list_sessions(0, all_tenants))
        found = page.sessions
        while page.more:
            page = await self._run(_calls.list_sessions(page.after_id, all_tenants))
            found += page.sessions
        return found

    async def control(
        self, state: Optional[str] = None, memory: Optional[int] = None
    ) -> dict[str, Any]:
        """As Client.control()."""
        return await self._run(_calls.control(state, memory))

    async def status(self) -> dict[str, Any]:
        """As Client.status()."""
        return await self._run(_calls.stats())


class AsyncSession(SessionState):
    """Tokens 0 to `tokens` of one sequence. Comes from AsyncClient.open() and fork()."""

    def __init__(self, client: AsyncClient, state: Any) -> None:
        super().__init__(state)
        self._client = client

    async def append(
        self,
        k: Any,
        v: Any = None,
        first: Optional[int] = None,
        token_ids: Optional[Sequence[int]] = None,
        *,
        salts: Optional[Iterable[tuple[int, int, bytes]]] = None,
        settle: bool = False,
    ) -> int:
        """As Session.append(). If it is cancelled, refresh() tells whether it was in time."""
        call = _transfer.append(self._state, self.geometry, k, v, first, token_ids, salts, settle)
        return await self._client._run(call) if call else self.tokens

    async def fetch(
        self,
        tokens: Optional[range] = None,
        layers: Optional[range] = None,
        out: Optional[tuple[Any, Any]] = None,
        *,
        dtype: Optional[str] = None,
        if_version: Optional[int] = None,
        within: Optional[Duration] = None,
    ) -> Fetched:
        """As Session.fetch()."""
        if tokens is None:
            await self.refresh()
            tokens = range(0, self.tokens)
        state, geometry = self._state, self.geometry
        call = _transfer.fetch(state, geometry, tokens, layers, out, dtype, if_version, within)
        return await self._client._run(call)

    async def fork(
        self, name: str, tokens: Optional[int] = None, *, if_version: Optional[int] = None
    ) -> AsyncSession:
        """As Session.fork()."""
        forked = await self._client._run(_calls.fork(self._state, name, tokens, if_version))
        return AsyncSession(self._client, forked)

    async def truncate(self, tokens: int) -> int:
        """As Session.truncate()."""
        return await self._client._run(_calls.truncate(self._state, tokens))

    async def age(self, level: Level, *, settle: bool = True) -> dict[str, Any]:
        """As Session.age()."""
        return await self._client._run(_calls.age(self._state, level, settle))

    async def policy(self, change: Optional[Policy] = None) -> Policy:
        """As Session.policy()."""
        return await self._client._run(_calls.policy(self._state, change))

    async def attach(self, name: str, data: Any, *, if_version: Optional[int] = None) -> None:
        """As Session.attach()."""
        await self._client._run(_calls.attach(self._state, name, data, if_version))

    async def attachment(self, name: str, *, if_version: Optional[int] = None) -> Attachment:
        """As Session.attachment()."""
        return await self._client._run(_calls.attachment(self._state, name, if_version))

    async def attachments(self) -> list[dict[str, Any]]:
        """As Session.attachments()."""
        return await self._client._run(_calls.attachments(self._state))

    async def detach(self, name: str, *, if_version: Optional[int] = None) -> int:
        """As Session.detach()."""
        return await self._client._run(_calls.detach(self._state, name, if_version))

    async def index(
        self,
        embeddings: Any,
        ranges: Sequence[Range],
        labels: Optional[Sequence[Optional[str]]] = None,
        metadata: Optional[Sequence[Any]] = None,
        metric: str = "cosine",
        *,
        if_version: Optional[int] = None,
    ) -> int:
        """As Session.index()."""
        return await self._client._run(
            _recall.index(self._state, embeddings, ranges, labels, metadata, metric, if_version)
        )

    async def unindex(
        self,
        labels: Optional[Sequence[str]] = None,
        *,
        tokens: Optional[Range] = None,
        if_version: Optional[int] = None,
    ) -> int:
        """As Session.unindex()."""
        return await self._client._run(_recall.unindex(self._state, labels, tokens, if_version))

    @overload
    async def recall(self, query: Any, k: int = 8, **options: Any) -> Recalled: ...

    @overload
    async def recall(self, *, queries: Any, k: int = 8, **options: Any) -> RecalledKeys: ...

    async def recall(
        self, query: Any = None, k: int = 8, *, queries: Any = None, **options: Any
    ) -> Union[Recalled, RecalledKeys]:
        """As Session.recall()."""
        if queries is None:
            return await self._client.recall(query, k, sessions=[self.name], model=self.model, **options)
        if query is not None:
            raise ValueError("query finds embeddings, queries find keys: one of them is to be given")
        return await self._client._run(_recall_keys.recall_keys(self._state, queries, k, **options))

    async def pin(self, lease: Duration) -> None:
        """As Session.pin()."""
        await self._client._run(_calls.pin(self._state, lease))

    async def flush(self) -> None:
        """As Session.flush()."""
        await self._client._run(_calls.flush(self.name))

    async def unpin(self) -> None:
        """As Session.unpin()."""
        await self._client._run(_calls.unpin(self._state))

    async def refresh(self) -> None:
        """As Session.refresh()."""
        await self._client._run(_calls.refresh(self._state))

    async def info(self) -> dict[str, Any]:
        """As Session.info()."""
        return await self._client._run(_calls.info(self._state))

    async def delete(self) -> int:
        """As Session.delete()."""
        return await self._client.delete(self.name)


class AsyncBlocks:
    """As kvquantd.Blocks. Comes from AsyncClient.blocks()."""

    def __init__(self, client: AsyncClient, geometry: Geometry, blocks: Any) -> None:
        self.geometry = geometry
        self._client, self._blocks = client, blocks

    async def put(
        self, key: bytes, k: Any, v: Any = None, parent: Optional[bytes] = None, position: int = 0
    ) -> bool:
        """As Blocks.put()."""
        call = _blocks.put(self._blocks, self.geometry, key, k, v, parent, position)
        try:
            return await self._client._run(call)
        except Exists:
            return False

    async def get(
        self,
        keys: Sequence[bytes],
        tokens: Optional[int] = None,
        out: Optional[Sequence[Pair]] = None,
    ) -> list[Optional[Pair]]:
        """As Blocks.get()."""
        got: list[Optional[Pair]] = [None] * len(keys)
        if tokens is not None:
            lengths = [tokens] * len(keys)
        elif out is not None:
            raise ValueError("with out, tokens says how many each block has")
        else:
            lengths = await self.exists(keys, lease=_blocks.GET_LEASE)
        for call, where in _blocks.gets(self._blocks, self.geometry, keys, lengths, out):
            pairs = await self._client._run(call)
            for i, pair in zip(where, pairs):
                got[i] = pair
        return got

    async def _control(
        self, keys: Sequence[bytes], action: int, lease: Optional[Duration] = None
    ) -> list[int]:
        tokens: list[int] = []
        for some in _blocks.batches(keys):
            lengths = await self._client._run(_blocks.control(self._blocks, some, action, lease))
            tokens += lengths
        return tokens

    async def exists(self, keys: Sequence[bytes], lease: Optional[Duration] = None) -> list[int]:
        """As Blocks.exists()."""
        return await self._control(keys, lib.KVQ_BLOCK_EXISTS, lease)

    async def touch(self, keys: Sequence[bytes], lease: Optional[Duration] = None) -> list[int]:
        """As Blocks.touch()."""
        return await self._control(keys, lib.KVQ_BLOCK_TOUCH, lease)

    async def delete(self, keys: Sequence[bytes]) -> list[int]:
        """As Blocks.delete()."""
        return await self._control(keys, lib.KVQ_BLOCK_DELETE)
