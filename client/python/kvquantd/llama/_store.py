"""Sessions that hold states of llama.cpp: what is understood in the codec, the rest whole and exact."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Optional, Sequence

import numpy as np

from .._client import Client
from .._errors import Exists, Miss
from .._geometry import Geometry, Level
from .._policy import Policy
from .._session import Session
from ._state import Layout, NotUnderstood, Rows, State, Writer, parse
from ._values import coding_of, give_back, kept, target

LAYOUT = "llama.cpp layout"  # attached while a session has no tokens, so that each of its forks has it
WHOLE = "llama.cpp state"
PART_BYTES = 16 << 20
PARTS_MAX = 60
IDS_ONLY = Geometry(layers=1, heads=1, head_dim=1, head_dim_v=0, dtype="int8")


@dataclasses.dataclass(frozen=True)
class Kept:
    """What became of a state: the session, how it is kept, and why so where it is kept whole."""

    session: str
    how: str
    tokens: int
    new_tokens: int
    state_bytes: int
    why: Optional[str] = None


class Store:
    """model: what no other weights, or settings that change K and V, have. policy: of new sessions."""

    def __init__(self, model: str, level: Level, heads: Optional[int] = None,
                 policy: Optional[Policy] = None) -> None:
        self.model, self._level, self._heads, self._policy = model, level, heads, policy

    def put(self, client: Client, ids: Sequence[int], before: bytes, body: Any,
            name: Optional[str] = None) -> Kept:
        """body: the state of these tokens, behind what precedes it. Only what no session has of it is
        sent. name: of the session that has it then; None: any."""
        try:
            state = parse(body)
            if state.tokens < len(ids):
                raise NotUnderstood(f"{state.tokens} cells for {len(ids)} tokens")
        except NotUnderstood as error:
            return self._put_whole(client, ids, [before, body], str(error), name)
        coding = coding_of(state.layout, self._level, self._heads)
        layout = _layout_to_json(state.layout, coding.what, before)
        session = self._begin(client, ids, coding.geometry, coding.level, layout, name)
        first = session.tokens
        if first < len(ids):
            sides = (state.layout.k, state.k), (state.layout.v, state.v)
            k, v = ([kept(coding, rows, layer[first : len(ids)]) for layer in layers] if rows else None
                    for rows, layers in sides)
            session.append(k, v, first=first, token_ids=ids[first:])
        how = "exact rows" if coding.what == "rows" else f"{coding.what}, level {coding.level}"
        size = len(before) + len(memoryview(body))
        return Kept(session.name, how, len(ids), len(ids) - first, size)

    def _begin(self, client: Client, ids: Sequence[int], geometry: Geometry, level: Level,
               layout: bytes, name: Optional[str]) -> Session:
        """A session that has the first of these tokens, as many as any has, and nothing else."""
        match = client.match(ids, self.model, geometry=geometry)
        if match:
            source = client.open(match[0], model=self.model)
            whole = match[1] == source.tokens
            if source.attachment(LAYOUT) == layout:
                if whole and name in (None, source.name):
                    return source
                if name == source.name:
                    source.truncate(match[1])
                    return source
                if name is not None:
                    _delete(client, name)
                return source.fork(name or _new_name(), match[1], if_version=match.version)
        if name is not None:
            _delete(client, name)
        session = client.open(name or _new_name(), model=self.model, geometry=geometry, level=level,
                              policy=self._policy, new=True)
        session.attach(LAYOUT, layout)
        return session

    def _put_whole(self, client: Client, ids: Sequence[int], pieces: list[Any], why: str,
                   name: Optional[str]) -> Kept:
        """The session's tokens carry nothing but their ids, by which it is found."""
        data = b"".join(pieces)
        parts = range(0, len(data), PART_BYTES)
        if len(parts) > PARTS_MAX:
            raise NotUnderstood(f"{why}, and is too long to be kept whole")
        layout = json.dumps({"whole": len(data)}).encode()
        session = self._begin_whole(client, ids, name)
        first = session.tokens
        session.append(np.zeros((1, len(ids) - first, 1, 1), np.int8), token_ids=ids[first:])
        for number, start in enumerate(parts):
            session.attach(f"{WHOLE} {number}", data[start : start + PART_BYTES])
        session.attach(LAYOUT, layout)  # last: it says that all of it is there
        return Kept(session.name, "whole", len(ids), len(ids) - first, len(data), why)

    def _begin_whole(self, client: Client, ids: Sequence[int], name: Optional[str]) -> Session:
        """One of the tokens up to now is of no more use."""
        match = client.match(ids, self.model, geometry=IDS_ONLY)
        if match and match[1] == match.session_tokens < len(ids) and name in (None, match[0]):
            return client.open(match[0], model=self.model)
        if name is not None:
            _delete(client, name)
        return client.open(name or _new_name(), model=self.model, geometry=IDS_ONLY, level="exact",
                           policy=self._policy, new=True)

    def get(self, client: Client, ids: Sequence[int], more_than: int = 0) -> Optional[tuple[int, Any]]:
        """(tokens, state) of the most of these tokens, with what precedes it. None: there are no more than
        so many."""
        match = client.match(ids, self.model)
        if match is None or match[1] <= more_than:
            return None
        session = client.open(match[0], model=self.model)
        state = read(session, match[1])
        return None if state is None else (match[1], state)


def read(session: Session, tokens: int) -> Optional[Any]:
    """The state of the session's first tokens, as llama.cpp had it. None: there is none of so many."""
    found = session.attachment(LAYOUT)
    layout = json.loads(found)
    if "whole" in layout:
        return _read_whole(session, layout["whole"], tokens) if found.tokens == tokens else None
    return _read_values(session, layout, tokens)


def _read_values(session: Session, fields: dict[str, Any], tokens: int) -> bytearray:
    layout, before = _layout_from_json(fields)
    coding = dataclasses.replace(coding_of(layout, session.level, session.geometry.heads),
                                 geometry=session.geometry, what=fields["what"])
    writer = Writer(layout, tokens, before)
    sides = [(rows, views, [target(coding, rows, view) for view in views])
             for rows, views in ((layout.k, writer.k), (layout.v, writer.v)) if rows]
    outs = [out for _, _, out in sides]
    session.fetch(range(0, tokens), out=(outs[0], outs[1] if layout.v else None))
    for rows, views, out in sides:
        for fetched, view in zip(out, views):
            give_back(coding, rows, fetched, view)
    return writer.finish()


def _read_whole(session: Session, size: int, tokens: int) -> Optional[bytes]:
    if session.tokens != tokens:
        return None
    parts = [session.attachment(f"{WHOLE} {number}") for number in range(-(-size // PART_BYTES))]
    data = b"".join(parts)
    complete = len(data) == size and all(part.tokens == tokens for part in parts)
    return data if complete else None


def _layout_to_json(layout: Layout, what: str, before: bytes) -> bytes:
    fields = dataclasses.asdict(layout)
    return json.dumps({**fields, "what": what, "before": before.hex()}, sort_keys=True).encode()


def _layout_from_json(fields: dict[str, Any]) -> tuple[Layout, bytes]:
    given = {field.name: fields[field.name] for field in dataclasses.fields(Layout)}
    given["k"], given["v"] = Rows(**given["k"]), Rows(**given["v"]) if given["v"] else None
    return Layout(**given), bytes.fromhex(fields["before"])


def _new_name() -> str:
    return f"llama.cpp-{os.urandom(12).hex()}"


def _delete(client: Client, name: str) -> None:
    try:
        client.delete(name)
    except Miss:
        pass
