"""LMCache: a connector of its native_plugin L2 adapter (multi-process mode).

    --l2-adapter '{"type": "native_plugin", "module_path": "kvquantd.lmcache", "class_name": "Connector",
        "adapter_params": {"model": "...", "layers": 32, "heads": 8, "head_dim": 128}}'
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Optional, Sequence

from ._host import Block, Heads, Layout, Store, heads_of_rank, key_of

log = logging.getLogger("kvquantd")

Completion = tuple[int, bool, str, Optional[list[bool]]]


class Key(NamedTuple):
    """`model@rank@group@hash` or `model@rank@group@hash@salt`, of which rank is four bytes in
    hexadecimal: world size, rank, both on this machine too."""

    model: str
    world_size: int
    rank: int
    group: int
    chunk_hash: str
    salt: str

    @classmethod
    def parse(cls, text: str) -> Key:
        model, kv_rank, group, chunk_hash, *salt = text.split("@")
        packed = int(kv_rank, 16)
        salted = "@".join(salt)
        return cls(model, packed >> 24, packed >> 16 & 255, int(group, 16), chunk_hash, salted)

    def of_all_ranks(self) -> bytes:
        return key_of(self.model, self.group, self.chunk_hash, self.salt)


class Connector:
    """Keeps LMCache's chunks as blocks in the daemon.

    model, level, degrees, lease, socket, deadline, retry_after: see kvquantd._host.Store. layers, heads
    (of the model, over all ranks), head_dim, dtype and axes say what LMCache's views hold: "PLTHD" is
    its KV_2LTD, what multi-process mode has. groups: the object groups of which that is true; other
    groups' objects, and views of another size, are not stored. With pipeline parallelism LMCache's keys
    do not tell which rank has which layers: not supported. workers: operations at the same time.
    """

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        dtype: str = "bfloat16",
        axes: str = "PLTHD",
        groups: Sequence[int] = (0,),
        workers: int = 4,
        **store: Any,
    ) -> None:
        self._layout = Layout(layers, heads, head_dim, dtype, axes)
        self._store = Store(self._layout, **store)
        self._groups = frozenset(groups)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kvquantd-lmcache")
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._completions: list[Completion] = []
        self._next_id = 0

    # ---- What LMCache calls ----

    def event_fd(self) -> int:
        return self._event_fd

    def submit_batch_get(self, keys: Sequence[str], memoryviews: Sequence[memoryview]) -> int:
        return self._submit(self._move, self._store.get, keys, memoryviews)

    def submit_batch_set(self, keys: Sequence[str], memoryviews: Sequence[memoryview]) -> int:
        return self._submit(self._move, self._store.put, keys, memoryviews, all_or_error=True)

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        return self._submit(self._ask, self._store.exists, keys)

    def submit_batch_delete(self, keys: Sequence[str]) -> int:
        return self._submit(self._ask, self._store.delete, keys)

    def drain_completions(self) -> list[Completion]:
        """(id, whether it worked, what went wrong, and where keys differ whether each did)."""
        try:
            os.eventfd_read(self._event_fd)
        except BlockingIOError:
            pass
        with self._lock:
            done, self._completions = self._completions, []
        return done

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._store.close()
        if self._event_fd >= 0:
            os.close(self._event_fd)
        self._event_fd = -1

    # ---- Behind that ----

    def _submit(
        self, work: Callable[..., list[bool]], *arguments: Any, all_or_error: bool = False
    ) -> int:
        with self._lock:
            self._next_id += 1
            number = self._next_id
        self._pool.submit(self._complete, number, work, arguments, all_or_error)
        return number

    def _complete(
        self,
        number: int,
        work: Callable[..., list[bool]],
        arguments: tuple[Any, ...],
        all_or_error: bool,
    ) -> None:
        try:
            each = work(*arguments)
            ok = all(each) or not all_or_error
            completion = number, ok, "" if ok else "not all were stored", each
        except Exception as error:  # LMCache waits for an answer, and goes on with this one
            log.exception("kvquantd.lmcache failed")
            completion = number, False, str(error), [False] * len(arguments[1])
        with self._lock:
            self._completions.append(completion)
            os.eventfd_write(self._event_fd, 1)

    def _heads(self, key: Key) -> Optional[Heads]:
        if key.group not in self._groups:
            return None
        return heads_of_rank(self._layout.heads, key.rank, key.world_size)

    def _block(self, key: Key, view: memoryview) -> Optional[Block]:
        heads = self._heads(key)
        if heads is None:
            return None
        k, v = self._layout.pair(self._layout.values(view), heads.number)
        return Block(key.of_all_ranks(), heads, k, v)

    def _move(
        self,
        move: Callable[[Sequence[Block]], list[bool]],
        keys: Sequence[str],
        views: Sequence[memoryview],
    ) -> list[bool]:
        blocks = [self._block(Key.parse(key), view) for key, view in zip(keys, views)]
        moved = iter(move([block for block in blocks if block is not None]))
        return [block is not None and next(moved) for block in blocks]

    def _ask(
        self, ask: Callable[[Sequence[bytes], Heads], list[bool]], keys: Sequence[str]
    ) -> list[bool]:
        """A look-up asks for the keys of all ranks at once."""
        parsed = [Key.parse(key) for key in keys]
        heads = [self._heads(key) for key in parsed]
        answers = [False] * len(keys)
        for share in {one for one in heads if one is not None}:
            where = [i for i, one in enumerate(heads) if one == share]
            for i, answer in zip(where, ask([parsed[i].of_all_ranks() for i in where], share)):
                answers[i] = answer
        return answers
