"""Layers of a CompressedDynamicCache whose old tokens are in the daemon."""

from __future__ import annotations

import contextlib
import time
import uuid
import weakref
from typing import Any, Optional

import torch  # type: ignore[import-not-found]

from .._client import Client, connect
from .._errors import Error
from .._geometry import Geometry, level_from_c
from .._policy import Policy
from .._session import Session
from ._layer import CompressedLayer
from ._levels import Steps
from ._pages import DTYPE_NAMES
from ._scratch import Scratch

DEADLINE_SECONDS = 10.0
LEASE_SECONDS = 600.0
PIECE_TOKENS = 512


class Held:
    """A session of the old tokens of all layers. It is pinned while it is used, and ends with its owner."""

    def __init__(self, socket: str, steps: Steps) -> None:
        if len(steps) > 2 or any(pair[0] != pair[1] for _, pair in steps):
            raise ValueError("a daemon keeps tokens at two levels by age, each of K and V, and no more")
        self._steps = steps
        self._client = connect(socket, deadline=DEADLINE_SECONDS)
        self._session: Optional[Session] = None
        self._pinned_until = 0.0
        self.layers: list[DaemonLayer] = []
        self.tokens = 0

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = self._open()
        now = time.monotonic()
        if now > self._pinned_until - LEASE_SECONDS / 2:
            self._session.pin(LEASE_SECONDS)
            self._pinned_until = now + LEASE_SECONDS
        return self._session

    def _open(self) -> Session:
        first, name = self.layers[0], f"hf-cache-{uuid.uuid4()}"
        _, _, heads, (dim_k, dim_v), dtype = first.shape
        geometry = Geometry(len(self.layers), heads, dim_k, dim_v, DTYPE_NAMES[dtype])
        levels = [level_from_c(pair[0]) for _, pair in self._steps]
        newest = self._steps[-1][0] - self._steps[0][0]  # the newest of all are not here
        policy = Policy(newest_tokens=newest, newest_level=levels[0])
        weakref.finalize(self, _end, self._client, name)
        return self._client.open(name, model=name, geometry=geometry, level=levels[-1], policy=policy, new=True)

    def info(self) -> dict[str, Any]:
        return {} if self._session is None else self._session.info()

    def take(self, count: int, settle: bool) -> None:
        """The oldest tokens of every layer's tail, a few pages at a time: the daemon's limit may be small."""
        while count > 0:
            piece = min(count, PIECE_TOKENS)
            self._append(piece, settle and piece == count)
            count -= piece

    def _append(self, count: int, settle: bool) -> None:
        k, v = ([layer.tail()[part][0, :, :count].transpose(0, 1).to(layer.dtype) for layer in self.layers]
                for part in range(2))
        self.tokens = self.session.append(k, v, self.tokens, settle=settle)
        for layer in self.layers:
            layer.taken(count)

    def fetch(self, layer: int, tokens: int, keys: Any, values: Any) -> None:
        """Into the first tokens of K and V [1, heads, tokens, head_dim]."""
        out = tuple(part[:, :, :tokens].transpose(1, 2) for part in (keys, values))
        self.session.fetch(range(tokens), range(layer, layer + 1), out, dtype=DTYPE_NAMES[keys.dtype])

    def truncate(self, tokens: int) -> None:
        if tokens < self.tokens:
            self.tokens = self.session.truncate(tokens)


def _end(client: Client, name: str) -> None:
    with contextlib.suppress(Error):
        client.delete(name)
    client.close()


class DaemonLayer(CompressedLayer):
    """Its newest tokens are here; `_paged` older ones are fetched at each use."""

    def __init__(self, scratch: Scratch, index: int, held: Held) -> None:
        super().__init__(scratch, index)
        self._held, self._number = held, len(held.layers)
        held.layers.append(self)

    def lazy_initialization(self, key_states: Any, value_states: Optional[Any] = None) -> None:
        if key_states.shape[0] != 1:
            raise ValueError(f"there are {key_states.shape[0]} sequences, and the daemon is given one")
        super().lazy_initialization(key_states, value_states)

    def reset(self) -> None:
        self._held.truncate(0)
        super().reset()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a cache whose old tokens are in the daemon is not copied or saved")

    def tokens_held(self) -> dict[Any, int]:
        """As info() has them; None: those that are here."""
        rows = self._held.info().get("levels", [])
        counts = {row["level"]: row["tokens"] for row in rows if row["tokens"]}
        return counts | ({None: int(self._c.tail_tokens)} if self._c.tail_tokens else {})

    def taken(self, count: int) -> None:
        rest = self._tail_from(count)
        self._paged += count
        self._take_tail(rest, rest[0].shape[2])

    def _code(self, left: int, whole_pages: bool = True) -> None:
        """All layers' at once, when the last of them has got its tokens."""
        if self is not self._held.layers[-1]:
            return
        count = int(self._c.tail_tokens) - left
        if whole_pages:
            count -= count % self._page_limit
        if count > 0:
            self._held.take(count, not whole_pages)

    def _step(self, added: list[Any], before: int, count: int) -> tuple[Any, Any]:
        room = self._scratch.room_for(self.dtype, self._rows, self._heads, self._dims, before + count)
        self._fill(room.keys, room.values)
        for part, new in zip((room.keys, room.values), added):
            part[:, :, before:] = new
        self._add(added, count)
        return room.keys, room.values

    def _restored(self) -> tuple[Any, Any]:
        shape = self._rows, self._heads, self._length()
        keys, values = (torch.empty(*shape, dim, dtype=self.dtype) for dim in self._dims)
        self._fill(keys, values)
        return keys, values

    def _fill(self, keys: Any, values: Any) -> None:
        if self._paged:
            self._held.fetch(self._number, self._paged, keys, values)
        for whole, tail in zip((keys, values), self._tail_from(0)):
            whole[:, :, self._paged : self._length()] = tail

    def _keep(self, length: int) -> None:
        self._c.tail_tokens = max(0, length - self._paged)
        self._paged = min(self._paged, length)
        self._held.truncate(length)

    def _select(self, indices: Any) -> None:
        if indices.tolist() != [0]:
            raise ValueError("the daemon is given one sequence")
